"""What a login in flight takes in Redis: under 1.5 KB, all its keys together, those of all limits among them."""

from service_kit.settings.groups import DEFAULT_LIMITS

from .conftest import MakeBroker

BUDGET = 1500  # octets
# As long as addresses, sites and state get in practice: nothing is cut short to look small.
REQUEST = {
    "login_hint": "a.person.with.a.rather.long.name+portier@mail.department.university.example",
    "client_id": "https://www.a-site-with-a-long-name.example",
    "redirect_uri": "https://www.a-site-with-a-long-name.example/accounts/login/portier/callback",
    "state": "s" * 64,
    "nonce": "n" * 43,
}


async def test_login_in_flight_takes_less_than_its_budget_with_all_its_keys(make_broker: MakeBroker) -> None:
    async with make_broker(limits=",".join(DEFAULT_LIMITS)) as broker:
        await broker.begin(**REQUEST)  # what all logins share is there after the first
        shared = set(await broker.store.client.keys())
        await broker.begin(**REQUEST | {"login_hint": "x" + REQUEST["login_hint"]})
        own = set(await broker.store.client.keys()) - shared
        assert sum("login:" in str(key) for key in own) == 1
        assert sum("limit:" in str(key) for key in own) == 4
        sizes = {key: await broker.store.client.memory_usage(key) or 0 for key in own}
        assert 900 < sum(sizes.values()) < BUDGET, sizes
