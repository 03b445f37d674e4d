"""Gymnasium environment: visits of a world for reinforcement learning; importing the module registers it."""

from collections.abc import Sequence
from operator import index
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sim.arrays import Mask
from sim.catalogue import Catalogue
from sim.data.ratings import HIGHEST_RATING, LOWEST_RATING
from sim.errors import BadInputError
from sim.leave import WINDOW, LeaveReason
from sim.policies.base import offered_items
from sim.world import LogsModel, World
from sim.world.data import SplitName, User
from sim.world.simulated_user import SimulatedUser

ENVIRONMENT = "billp/Visit-v0"
# Half the range of ratings: an upper bound for a mean deviation from the mean.
FARTHEST_TASTE = (HIGHEST_RATING - LOWEST_RATING) / 2

Observation = NDArray[np.float32]


class Observer:
    """Encoder of a visit as an observation, from data that a recommender may know; no field leads to a reward table.

    Args:
        catalogue: The items.
        logs: The model fitted on the logs alone.

    Attributes:
        space: Space of the observations.
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

    def observe(self, first_observation: Observation, recent: Sequence[int], ratings: Sequence[float]) -> Observation:
        """Return the observation after some recommendations.

        Args:
            first_observation: First observation of the visit.
            recent: Positions of the last items of the visit, latest first, at most `WINDOW`.
            ratings: The user's ratings of these items.
        """
        observation = first_observation.copy()
        first = self._factors + 1
        observation[first : first + len(recent) * self._factors] = self._vectors[list(recent)].ravel()
        first += WINDOW * self._factors
        observation[first : first + len(ratings)] = ratings
        return observation


class RecommendEnv(gymnasium.Env[Observation, np.int64]):
    """Environment that recommends one item after another to a user, who may leave after each.

    ## Action
    `Discrete(n)`: position in the catalogue of the item to recommend. `info["action_mask"]` (int8, for
    `action_space.sample`) and `action_masks()` (bool, for MaskablePPO of sb3-contrib) mark the items new to this visit
    and to the user's history, unless the world allows known items. If none is left, they mark known items, then the
    items outside the last four. The mask is advice: every item of the catalogue is a valid action, but at one of the
    last four the user leaves.

    ## Observation
    `Box` of float32, shape (f + 1 + 4f + 4,), where f is the length of the logs model's item vectors. It contains only
    data that a recommender may know; nothing comes from the reward tables.

    | values | meaning |
    |---|---|
    | f | taste: mean over the user's history of an item's vector times (its rating - the user's mean rating) |
    | 1 | the user's mean rating in the history |
    | 4f | vectors of the last four items of this visit, latest first; padded with zeros |
    | 4 | the user's ratings of these items; padded with zeros |

    ## Rewards
    The user's rating of the item, 1 to 5, or 0 if the user leaves at it. The undiscounted return of an episode
    therefore equals the `total_reward` of a visit in a study.

    ## Episode End
    `terminated`: the user left, by the leave rule; `info["leave_reason"]` gives the reason ("repeat", "similar",
    "disliked"). `truncated`: the visit reached `max_steps` and the user stayed.

    ## Arguments
    - `world`: the folder of a world, or a `World`. Give the folder if a specification of the environment is saved or
      sent to another process: JSON holds no `World`, and a pickled one is large. Copies share their `World`.
    - `split`: "train" (the default), "dev" or "test". Train on train users only; otherwise the evaluation is worthless.
    - `users`: ids of the users who may visit; None for all users of the split. `reset` draws one of them;
      `reset(options={"user_id": ...})` chooses one.
    - `max_steps`: limit of a visit, 100 by default.
    - `render_mode`: None (the default), or "ansi": `render()` returns the visit as text, a line for each round.

    An environment can be copied and pickled in the middle of a visit; the copy continues by itself.

    Only the choice of the user is random. `reset(seed=...)` seeds it.

    Raises:
        BadInputError: The world, the split or a user is unknown, `max_steps` is below 1, or
            there is no such `render_mode`.
    """

    # Gymnasium's checker warns without a rate; text has no use for it.
    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}

    def __init__(
        self,
        world: World | str | Path,
        split: SplitName = "train",
        users: Sequence[str] | None = None,
        max_steps: int = 100,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise BadInputError(f"there is no render_mode {render_mode!r}; choose None or 'ansi'")
        if max_steps < 1:
            raise BadInputError(f"max_steps is {max_steps}; give at least 1")
        self.world = world if isinstance(world, World) else World.load(world)
        self.max_steps = max_steps
        self.render_mode = render_mode
        self._split = self.world.split(split)
        self._pool = _pool(self._split.users, users, split)
        self._ids = [item.id for item in self.world.catalogue]
        self.observer = Observer(self.world.catalogue, self.world.logs)
        self.observation_space = self.observer.space
        self.action_space = spaces.Discrete(len(self._ids))
        self._user: SimulatedUser | None = None
        self._user_id = ""
        self._positions: list[int] = []
        self._ratings: list[float] = []
        self._leave_reason: LeaveReason | None = None
        self._known = self.world.withheld(())
        self._mask: Mask = np.ones(len(self._ids), dtype=bool)
        self._first_observation: Observation = np.zeros(self.observer.space.shape, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start the visit of a user of the pool.

        Args:
            seed: Seed of the choice of this user and of later users.
            options: `user_id` chooses the user; no other option is known.

        Raises:
            BadInputError: An option is unknown, or the user is not in the pool.
        """
        super().reset(seed=seed)
        user = self.world.users[self._chosen(options or {})]
        self._user, self._user_id = SimulatedUser(self._split, user.id, user.history), user.id
        self._positions, self._ratings, self._leave_reason = [], [], None
        self._known = self.world.withheld(user.history)
        self._mask = offered_items(len(self._ids), self._positions, self._known)
        self._first_observation = self.observer.begin(user)
        return self._first_observation.copy(), self._info()

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Recommend the item at the position `action`.

        Raises:
            BadInputError: There is no active visit, or no such position in the catalogue.
        """
        if self._user is None:
            raise BadInputError("no visit is running: call reset() first, and again after each visit")
        try:
            position = index(action)
        except TypeError as error:
            raise BadInputError(f"the action {action} is no whole number: give the position of an item") from error
        if not 0 <= position < len(self._ids):
            raise BadInputError(f"there is no action {position}; positions run from 0 to {len(self._ids) - 1}")
        recent = [self._ids[one] for one in self._positions[-WINDOW:]]
        reaction = self._user.react(self._ids[position], recent)
        self._positions.append(position)
        self._ratings.append(reaction.reward)
        self._leave_reason = reaction.leave_reason
        self._mask = offered_items(len(self._ids), self._positions, self._known)
        observation = self.observer.observe(
            self._first_observation, self._positions[: -WINDOW - 1 : -1], self._ratings[: -WINDOW - 1 : -1]
        )
        truncated = not reaction.left and len(self._positions) >= self.max_steps
        info = self._info() | {"item_id": self._ids[position], "leave_reason": reaction.leave_reason}
        if reaction.left or truncated:
            self._user = None
        return observation, 0.0 if reaction.left else reaction.reward, reaction.left, truncated, info

    def render(self) -> str | None:
        """Return the visit so far as text, a line for each round; None without a `render_mode`."""
        if self.render_mode is None:
            return None
        items = [self.world.catalogue[position] for position in self._positions]
        lines = [f"user {self._user_id}"]
        lines += [
            f"{number:3}  {rating:.2f}  {item.title} ({', '.join(item.genres)})"
            for number, (item, rating) in enumerate(zip(items, self._ratings, strict=True), start=1)
        ]
        if self._leave_reason is not None:
            lines.append(f"left: {self._leave_reason}")
        return "\n".join(lines)

    def action_masks(self) -> Mask:
        """Return a mask of the items to recommend, as in `info["action_mask"]`, shape (n_items,)."""
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
            raise BadInputError(
                f"{options['user_id']!r} is not one of the {len(self._pool)} users of this environment; "
                "choose one of them"
            )
        return str(options["user_id"])


def _pool(known: Sequence[str], users: Sequence[str] | None, split: str) -> tuple[str, ...]:
    """Return the users who may visit.

    Raises:
        BadInputError: The pool is empty, or a user is not in the split.
    """
    pool = tuple(known if users is None else users)
    strangers = sorted(set(pool) - set(known))
    if strangers:
        raise BadInputError(
            f"{strangers[0]!r} is not a user of the split {split!r}; choose some of world.split(...).users"
        )
    if not pool:
        raise BadInputError(f"there is no user to visit in the split {split!r}; name at least one")
    return pool


gymnasium.register(id=ENVIRONMENT, entry_point="sim.rl.environment:RecommendEnv")
