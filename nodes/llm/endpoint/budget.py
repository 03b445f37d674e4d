"""Budget in US dollars, shared by all calls in all processes of a study."""

from multiprocessing.sharedctypes import Synchronized

from sim.errors import BillpError


class BudgetSpentError(BillpError):
    """Raised instead of a call that could exceed the budget."""


class Budget:
    """Budget in US dollars.

    Args:
        most: Size of the budget in dollars.
        spent: Dollars spent or reserved, in memory that the processes share.
    """

    def __init__(self, most: float, spent: "Synchronized[float]") -> None:
        self._most = most
        self._spent = spent

    def reserve(self, dollars: float) -> None:
        """Reserve the highest cost of a call.

        Raises:
            BudgetSpentError: The rest of the budget is smaller.
        """
        with self._spent.get_lock():
            if self._spent.value + dollars > self._most:
                raise BudgetSpentError(f"another call could cost more than the ${self._most:g} of --max-cost")
            self._spent.value += dollars

    def settle(self, reserved: float, dollars: float) -> None:
        """Replace the reserved cost of a call by its real cost."""
        with self._spent.get_lock():
            self._spent.value += dollars - reserved


# Budget of this process, as one entry: all providers spend from it.
_shared: list[Budget] = []


def share_budget(budget: Budget | None) -> None:
    """Let all calls of this process spend from a budget; None removes it."""
    _shared[:] = [] if budget is None else [budget]


def shared_budget() -> Budget | None:
    """Return the budget of this process; None without a limit."""
    return _shared[0] if _shared else None
