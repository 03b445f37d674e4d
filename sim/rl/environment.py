"""The visits of a world as a Gymnasium environment, for reinforcement learning; importing this registers it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sim.arrays import Mask
from sim.catalogue import Catalogue
from sim.errors import BadInputError
from sim.leave import WINDOW
from sim.policies.base import fresh_items
from sim.world import LogsModel, World
from sim.world.data import SplitName, User
from sim.world.simulated_user import SimulatedUser

ENVIRONMENT = "billp/Visit-v0"
HIGHEST_RATING = 5.0
# Half the range of ratings (0.5 to 5), which no mean deviation from a mean exceeds.
FARTHEST_TASTE = 2.25

Observation = NDArray[np.float32]


class Observer:
    """Put into numbers what a recommender may know of a visit; nothing here leads to a reward table.

    Args:
        catalogue: The items.
        logs: The fit on the logs alone.

    Attributes:
        space: Where the observations lie.
    """

    def __init__(self, catalogue: Catalogue, logs: LogsModel) -> None:
        self._catalogue = catalogue
        self._vectors = logs.vectors
        self._factors = logs.vectors.shape[1]
        taste, vector, rating = np.full(self._factors, FARTHEST_TASTE), np.ones(self._factors), [HIGHEST_RATING]
        high = np.concatenate([taste, rating, *[vector] * WINDOW, rating * WINDOW]).astype(np.float32)
        low = np.concatenate([-taste, [0.0], *[-vector] * WINDOW, [0.0] * WINDOW]).astype(np.float32)
        self.space = spaces.Box(low, high, dtype=np.float32)

    def begin(self, user: User) -> Observation:
        """Return the observation before the first recommendation."""
        observation = np.zeros(self.space.shape, dtype=np.float32)
        if user.history:
            ratings = np.array(user.ratings, dtype=np.float32)
            mean = ratings.mean()
            rated = self._vectors[self._catalogue.positions(user.history)]
            observation[: self._factors] = (ratings - mean) @ rated / len(ratings)
            observation[self._factors] = mean
        return observation

    def observe(self, begun: Observation, recent: Sequence[int], ratings: Sequence[float]) -> Observation:
        """Return the observation after some recommendations.

        Args:
            begun: The visit's first observation.
            recent: Positions of the last items of the visit, latest first, at most `WINDOW`.
            ratings: What the user gave them.
        """
        observation = begun.copy()
        first = self._factors + 1
        observation[first : first + len(recent) * self._factors] = self._vectors[list(recent)].ravel()
        first += WINDOW * self._factors
        observation[first : first + len(ratings)] = ratings
        return observation


class RecommendEnv(gymnasium.Env[Observation, np.int64]):
    """Recommend one item after another to a user who may leave after any.

    ## Action
    `Discrete(n)`: the position in the catalogue of the item to recommend. `info["action_mask"]` (int8, as
    `action_space.sample` takes it) and `action_masks()` (bool, as MaskablePPO of sb3-contrib asks for it) say which
    items this visit has not had yet; once it had all, which it has not had lately. The mask is advice: another item
    of the catalogue may be taken, and one of the last four makes the user leave.

    ## Observation
    `Box` of float32, shape (f + 1 + 4f + 4,), f being the length of the logs model's item vectors. All of it is what a
    recommender may know; nothing is read from the reward tables.

    | values | what they are |
    |---|---|
    | f | taste: mean over the user's history of an item's vector times how far its rating is above the user's mean |
    | 1 | the user's mean rating in the history |
    | 4f | vectors of the last four items of this visit, latest first; zeros where there are fewer |
    | 4 | what the user gave them; zeros where there are fewer |

    ## Rewards
    The user's rating of the item, 1 to 5, and 0 where the user leaves at it. So the return of an episode, undiscounted,
    is the `total_reward` of a visit in a study.

    ## Episode End
    `terminated`: the user left, by the leave rule; `info["leave_reason"]` then says why ("repeat", "similar",
    "disliked"). `truncated`: the visit reached `max_steps`, and the user stayed.

    ## Arguments
    - `world`: the folder of a world, or a `World`. Give the folder where a specification of the environment is to be
      written down or sent to another process; a `World` cannot be. Copies of a specification share their `World`.
    - `split`: "train" (the default), "dev" or "test". Train on train users alone, else the evaluation means nothing.
    - `users`: ids of the users who may visit, all of the split if None. `reset` draws one of them;
      `reset(options={"user_id": ...})` chooses one.
    - `max_steps`: the limit of a visit, 100 by default.

    Nothing but the choice of the user is drawn, from the generator that `reset(seed=...)` sets.

    Raises:
        BadInputError: There is no such world, split or user, or `max_steps` is below 1.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(
        self,
        world: World | str | Path,
        split: SplitName = "train",
        users: Sequence[str] | None = None,
        max_steps: int = 100,
    ) -> None:
        if max_steps < 1:
            raise BadInputError(f"max_steps is {max_steps}; give at least 1")
        self.world = world if isinstance(world, World) else World.load(world)
        self.max_steps = max_steps
        self._split = self.world.split(split)
        self._pool = _pool(self._split.users, users, split)
        self._ids = [item.id for item in self.world.catalogue]
        self._observer = Observer(self.world.catalogue, self.world.logs)
        self.observation_space = self._observer.space
        self.action_space = spaces.Discrete(len(self._ids))
        self._user: SimulatedUser | None = None
        self._user_id = ""
        self._positions: list[int] = []
        self._ratings: list[float] = []
        self._mask: Mask = np.ones(len(self._ids), dtype=bool)
        self._begun: Observation = np.zeros(self._observer.space.shape, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin the visit of a user of the pool.

        Args:
            seed: Seeds the choice of this user and of those after.
            options: `user_id` chooses the user; nothing else is known.

        Raises:
            BadInputError: There is no such option, or no such user in the pool.
        """
        super().reset(seed=seed)
        user = self.world.users[self._chosen(options or {})]
        self._user, self._user_id = SimulatedUser(self._split, user.id, user.history), user.id
        self._positions, self._ratings = [], []
        self._mask = np.ones(len(self._ids), dtype=bool)
        self._begun = self._observer.begin(user)
        return self._begun.copy(), self._info()

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Recommend the item at the position `action`.

        Raises:
            BadInputError: No visit is under way, or the catalogue has no such position.
        """
        if self._user is None:
            raise BadInputError("no visit is under way: call reset() first, and again when a visit is over")
        if not 0 <= action < len(self._ids):
            raise BadInputError(f"there is no action {action}; positions run from 0 to {len(self._ids) - 1}")
        position = int(action)
        recent = [self._ids[one] for one in self._positions[-WINDOW:]]
        reaction = self._user.react(self._ids[position], recent)
        self._positions.append(position)
        self._ratings.append(reaction.reward)
        self._mask[position] = False
        if not self._mask.any():
            self._mask = fresh_items(len(self._ids), self._positions)
        observation = self._observer.observe(
            self._begun, self._positions[: -WINDOW - 1 : -1], self._ratings[: -WINDOW - 1 : -1]
        )
        truncated = not reaction.left and len(self._positions) >= self.max_steps
        info = self._info() | {"item_id": self._ids[position], "leave_reason": reaction.leave_reason}
        if reaction.left or truncated:
            self._user = None
        return observation, 0.0 if reaction.left else reaction.reward, reaction.left, truncated, info

    def action_masks(self) -> Mask:
        """Return which items this visit has not had yet, shape (n_items,)."""
        return self._mask.copy()

    def _info(self) -> dict[str, Any]:
        return {"user_id": self._user_id, "action_mask": self._mask.astype(np.int8)}

    def _chosen(self, options: dict[str, Any]) -> str:
        unknown = options.keys() - {"user_id"}
        if unknown:
            raise BadInputError(f"there is no option {sorted(unknown)[0]!r}; the only one is user_id")
        if "user_id" not in options:
            return self._pool[int(self.np_random.integers(len(self._pool)))]
        if options["user_id"] not in self._pool:
            raise BadInputError(f"{options['user_id']!r} is none of the {len(self._pool)} users who may visit")
        return str(options["user_id"])


def _pool(known: Sequence[str], users: Sequence[str] | None, split: str) -> tuple[str, ...]:
    """Return the users who may visit.

    Raises:
        BadInputError: There are none, or one of them is no user of the split.
    """
    pool = tuple(known if users is None else users)
    strangers = sorted(set(pool) - set(known))
    if strangers:
        raise BadInputError(f"{strangers[0]!r} is no user of the split {split!r}; take some of world.split(...).users")
    if not pool:
        raise BadInputError(f"there is no user to visit in the split {split!r}; name at least one")
    return pool


gymnasium.register(id=ENVIRONMENT, entry_point="sim.rl.environment:RecommendEnv")
