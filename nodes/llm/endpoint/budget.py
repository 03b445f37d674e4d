"""A budget of dollars that all calls share, over all processes of a study."""

from multiprocessing.sharedctypes import Synchronized

from sim.errors import BillpError


class BudgetSpentError(BillpError):
    """Raised instead of a call that could cost more than is left."""


class Budget:
    """Dollars that may be spent.

    Args:
        most: How many.
        spent: How many are spent or set aside, a number that processes share.
    """

    def __init__(self, most: float, spent: "Synchronized[float]") -> None:
        self._most = most
        self._spent = spent

    def reserve(self, dollars: float) -> None:
        """Set aside what a call may cost.

        Raises:
            BudgetSpentError: There is not so much left.
        """
        with self._spent.get_lock():
            if self._spent.value + dollars > self._most:
                raise BudgetSpentError(f"another call could cost more than the ${self._most:g} of --max-cost")
            self._spent.value += dollars

    def settle(self, reserved: float, dollars: float) -> None:
        """Count what a call cost instead of what was set aside for it."""
        with self._spent.get_lock():
            self._spent.value += dollars - reserved
