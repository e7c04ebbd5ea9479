"""Whether mail waits where no mailer takes it: what doctor asks of the mail queues, without a trace in the ACL log."""

from __future__ import annotations

import asyncio

from shared_store.errors import StoreDenied, StoreError
from shared_store.findings import Finding, Severity
from shared_store.keyspace import MAIL_JOBS, MAIL_LEASES
from shared_store.mail_queue import MailQueue
from shared_store.mail_shards import MOST_SHARDS, queue_tags, tags_with
from shared_store.mail_whereabouts import count_mailers
from shared_store.rights import may_send
from shared_store.store import Store

LOOK_AGAIN = 4.0  # seconds after which a mailer has found the mail and taken the queue on
_ID = "mail_is_served"
_WHY = "each of these mails is a person who waits in front of the login page"
_MEND = "start a mailer, or see in its log why it holds no lease; mailer queue tells how much waits"
_UNKNOWN = "this user may not look at the mail queues"


async def mail_is_served(store: Store) -> Finding:
    """Look into every queue that there may be, twice where mail waits in one that no mailer serves."""
    try:
        if not await _may_look(store):
            return Finding(_ID, Severity.UNKNOWN, _UNKNOWN, _WHY)
        unserved = await _unserved(store)
        if unserved:
            await asyncio.sleep(LOOK_AGAIN)
            unserved = await _unserved(store)
    except StoreDenied:
        return Finding(_ID, Severity.UNKNOWN, _UNKNOWN, _WHY)
    except StoreError as error:  # what else was found is not to be lost for that
        return Finding(_ID, Severity.UNKNOWN, str(error), _WHY)
    if unserved:
        return Finding(_ID, Severity.ERROR, f"no mailer takes the mail in {', '.join(unserved)}", _WHY, _MEND)
    return Finding(_ID, Severity.OK, "no mail waits without a mailer", _WHY)


async def _may_look(store: Store) -> bool:
    """Tell whether this user may; also where the server can't tell."""
    asked = ("exists", MAIL_JOBS.key(tag="mail")), ("zcard", MAIL_LEASES.key(tag="mail"))
    return False not in await store.run(may_send(*asked))


async def _unserved(store: Store) -> list[str]:
    tags = await store.run(tags_with(queue_tags(MOST_SHARDS)))
    return [tag for tag in tags if not await count_mailers(store, MailQueue(tag))]
