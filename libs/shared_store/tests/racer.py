"""One of several processes that do the same thing at once, run by test_races; prints how many tasks succeeded."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from shared_store import auth_codes, logins, rate_limits
from shared_store.connection import ConnectionOptions
from shared_store.locks import Locks
from shared_store.logins import CodeStatus, SessionId, new_operation_id
from shared_store.notices import Notices
from shared_store.rate_limits import Counter
from shared_store.store import Store


async def attempt(store: Store, what: str, subject: str) -> bool:
    if what == "confirm":
        call = logins.confirm_code(SessionId(subject), "right", guesses=3, operation=new_operation_id())
        return (await store.run(call)).status is CodeStatus.RIGHT
    if what == "redeem":
        token = auth_codes.new_access_token(subject)
        call_ = auth_codes.take(subject, access_token=token, access_ttl=60, operation=new_operation_id())
        return await store.run(call_) is not None
    if what == "lock":
        return await Locks(store, Notices(store)).try_take(subject, ttl=30) is not None
    [count] = await store.run(rate_limits.hit([Counter("l", (subject,), 5, 60)]))
    return not count.exceeded


async def main(url: str, ca_file: str, client_cert: str, client_key: str, tasks: str, *subjects: str) -> None:
    ca, cert, key = (Path(name) if name else None for name in (ca_file, client_cert, client_key))
    options = ConnectionOptions(ca_file=ca, client_cert=cert, client_key=key, timeout=30)
    async with Store(url, options) as store:
        await store.ping()
        print("ready", flush=True)
        sys.stdin.readline()
        for what_and_subject in subjects:
            what, subject = what_and_subject.split(":")
            print(sum(await asyncio.gather(*(attempt(store, what, subject) for _ in range(int(tasks))))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
