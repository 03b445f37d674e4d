"""Plans edited on a server: orders that shortlist and item follow, on `tiny` and on MovieLens, whatever the model."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from nodes.llm.prompting import read_facts
from nodes.tools.open_world import close_worlds, open_world_now
from sim.catalogue import Item
from sim.data.sources import available
from tests.integration.people.test_orders import ORDERS as OF_TINY
from tests.scripted import Asked, Reply, by_rules
from tests.scripted import serving as serving_model
from tests.servers import serving

pytestmark = pytest.mark.slow
needs_movielens = pytest.mark.skipif(not available("movielens"), reason="needs the extra `movielens`")
AT_ONCE = 8
Check = Callable[[Item], bool]


class Order(NamedTuple):
    """Edit of a plan, and what its items must be."""

    plan: str
    is_met: Check


def of(*wanted: str, no: tuple[str, ...] = (), years: range | None = None) -> Check:
    """Return the check that an item has categories, lacks others, and is of the years."""
    return lambda item: (
        {*wanted} <= {*item.genres}
        and not {*no} & {*item.genres}
        and (years is None or (item.year is not None and item.year in years))
    )


def named(title: str) -> Check:
    return lambda item: item.title == title


TINY = [Order(plan, of(*wanted, no=(*unwanted,))) for plan, wanted, unwanted in OF_TINY]
MOVIELENS = [
    Order("Recommend Documentary.", of("Documentary")),
    Order("Only documentaries!", of("Documentary")),
    Order("Recommend Horror.", of("Horror")),
    Order("Only westerns!", of("Western")),
    Order("cartoons", of("Animation")),
    Order("something funny", of("Comedy")),
    Order("romantic comedies", of("Romance", "Comedy")),
    Order("sci-fi, please", of("Sci-Fi")),
    Order("science fiction, but no action", of("Sci-Fi", no=("Action",))),
    Order("I am tired of dramas", of(no=("Drama",))),
    Order("No horror today", of(no=("Horror",))),
    Order("no comedy, no drama", of(no=("Comedy", "Drama"))),
    Order("musicals", of("Musical")),
    Order("film noir", of("Film-Noir")),
    Order("war films", of("War")),
    Order("anything but romance", of(no=("Romance",))),
    Order("films of the 1970s", of(years=range(1970, 1980))),
    Order("only films from 1994", of(years=range(1994, 1995))),
    Order("films from before 1960", of(years=range(1960))),
    Order("movies after 2000", of(years=range(2000, 2100))),
    Order("westerns of the sixties", of("Western", years=range(1960, 1970))),
    Order("horror from the eighties", of("Horror", years=range(1980, 1990))),
    Order("for children", of("Children")),
    Order("animated films, not for children", of("Animation", no=("Children",))),
    Order("less romance, more crime", of("Crime", no=("Romance",))),
    Order("fairy tales please", of("Fantasy")),
    Order("Leave out comedy and crime", of(no=("Comedy", "Crime"))),
    Order("a thriller, but no crime", of("Thriller", no=("Crime",))),
    Order("Recommend Casablanca.", named("Casablanca")),
    Order("Recommend Heat.", named("Heat")),
]
WORLDS = [
    pytest.param("tiny", TINY, id="tiny"),
    pytest.param("movielens", MOVIELENS, id="movielens", marks=needs_movielens),
]
ORDERED = {order.plan: order for order in (*TINY, *MOVIELENS)}


def stubborn(asked: Asked) -> Reply:
    """Name a title that does not meet the plan, as the Actor; answer as `rules` for the other roles."""
    if asked.facts["role"] != "actor" or asked.facts["plan"] not in ORDERED:
        return by_rules(asked)
    order = ORDERED[asked.facts["plan"]]
    world = "tiny" if order in TINY else "movielens"
    other = next(item for item in open_world_now(world).world.catalogue if not order.is_met(item))
    return Reply(json.dumps({"item": other.title}))


@pytest.fixture(scope="module")
def worlds(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Home folder with both worlds, open in this process too."""
    home = tmp_path_factory.mktemp("worlds") / "home"
    shutil.copytree(built_home, home)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BILLP_HOME", str(home))
        if available("movielens"):
            open_world_now("movielens")
        yield home
        close_worlds()


@pytest.fixture(scope="module")
def url(worlds: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        serving_model(stubborn) as model,
        serving(
            tmp_path_factory.mktemp("server"),
            worlds,
            env={"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "scripted"},
        ) as server,
    ):
        yield server.url


class Outcome(NamedTuple):
    """Round after an edit."""

    item: Item
    shortlist: list[Item]
    state: dict[str, Any]


async def by_update(client: LangGraphClient, world: str, plan: str, **run: Any) -> Outcome:
    """Edit the plan of a new visit before the Actor, and resume."""
    thread = (await client.threads.create())["thread_id"]
    given: dict[str, Any] = {"world": world, "max_steps": 2}
    await client.runs.wait(thread, "episode", input=given, interrupt_before=["actor"], **run)
    await client.threads.update_state(thread, {"plan": plan})
    await client.runs.wait(thread, "episode", interrupt_before=["user"], **run)
    return await outcome(client, thread)


async def by_command(client: LangGraphClient, world: str, plan: str) -> Outcome:
    """Edit the plan by the command that resumes the visit."""
    thread = (await client.threads.create())["thread_id"]
    given: dict[str, Any] = {"world": world, "max_steps": 2}
    await client.runs.wait(thread, "episode", input=given, interrupt_before=["actor"])
    await client.runs.wait(thread, "episode", command={"update": {"plan": plan}}, interrupt_before=["user"])
    return await outcome(client, thread)


async def by_fork(client: LangGraphClient, world: str, plan: str) -> Outcome:
    """Edit the plan of the first round of a finished visit, and go on from there."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "episode", input={"world": world, "max_steps": 2})
    history = await client.threads.get_history(thread, limit=100)
    before = next(one for one in reversed(history) if one["next"] == ["actor"])
    await client.threads.update_state(thread, {"plan": plan}, checkpoint_id=before["checkpoint"]["checkpoint_id"])
    await client.runs.wait(thread, "episode", interrupt_before=["user"])
    return await outcome(client, thread)


async def by_answer(client: LangGraphClient, world: str, plan: str) -> Outcome:
    """Give the order with the answer of a person."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "recommend", input={"world": world, "user_id": f"of {plan}"})
    state: Any = await client.runs.wait(thread, "recommend", command={"resume": {"skip": True, "plan": plan}})
    assert state["__interrupt__"][0]["value"]["plan"] == plan
    return await outcome(client, thread)


async def outcome(client: LangGraphClient, thread: str) -> Outcome:
    state: Any = (await client.threads.get_state(thread))["values"]
    catalogue = open_world_now(state["identity"]["world"]).world.catalogue
    listed = [catalogue.item(one["item_id"]) for one in state["shortlist"]]
    return Outcome(catalogue.item(state["proposal"]["item_id"]), listed, state)


WAYS = (by_update, by_command, by_fork, by_answer)


@pytest.mark.parametrize(("world", "orders"), WORLDS)
async def test_each_of_thirty_edits_is_followed_by_shortlist_and_item(
    url: str, world: str, orders: list[Order]
) -> None:
    assert len(orders) == 30
    client, free = get_client(url=url, timeout=120), asyncio.Semaphore(AT_ONCE)

    async def missed(number: int, order: Order) -> str:
        async with free:
            found = await WAYS[number % len(WAYS)](client, world, order.plan)
        if order.is_met(found.item) and all(map(order.is_met, found.shortlist)) and not found.state["unmet"]:
            return ""
        return f"{order.plan}: {found.item} of {found.shortlist}, {found.state['unmet']}"

    assert not [*filter(None, await asyncio.gather(*(missed(*each) for each in enumerate(orders))))]


@pytest.mark.parametrize(("world", "orders"), WORLDS)
async def test_a_model_that_names_something_else_does_not_win(url: str, world: str, orders: list[Order]) -> None:
    client = get_client(url=url, timeout=120)
    for order in orders[::6]:
        found = await by_update(client, world, order.plan, context={"model": "openai:scripted"})
        assert order.is_met(found.item), order.plan
        asked = found.state["exchange"]["actor"]
        assert asked["outcome"] == "fallback" and read_facts(asked["prompt"])["plan_is_an_order_of_a_person"]


@pytest.mark.parametrize(
    ("world", "plan", "unmet"),
    [
        ("tiny", "Recommend Horror.", "Horror: the catalogue has none"),
        pytest.param("movielens", "a film of 1800", "from 1800: the catalogue has none", marks=needs_movielens),
        pytest.param(
            "movielens",
            "western musicals with horror from 1931",
            "Western and Musical and Horror: the catalogue has none",
            marks=needs_movielens,
        ),
    ],
)
async def test_what_the_catalogue_lacks_is_said_in_state_event_and_question(
    url: str, world: str, plan: str, unmet: str
) -> None:
    client = get_client(url=url, timeout=120)
    found = await by_update(client, world, plan)
    assert found.state["unmet"] == [unmet] and found.item
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "episode", input={"world": world, "max_steps": 1}, interrupt_before=["actor"])
    await client.threads.update_state(thread, {"plan": plan})
    events = [part.data async for part in client.runs.stream(thread, "episode", stream_mode="custom")]
    assert [part["round"]["unmet"] for part in events if "round" in part] == [[unmet]]
    person = (await client.threads.create())["thread_id"]
    await client.runs.wait(person, "recommend", input={"world": world, "user_id": "of what is lacking"})
    state: Any = await client.runs.wait(person, "recommend", command={"resume": {"skip": True, "plan": plan}})
    assert state["__interrupt__"][0]["value"]["unmet"] == [unmet]
