"""What can go wrong in key-rotator, as one tree.

KeyRotatorError
├── KeyGenerationError   no new key could be made
├── KeysBusyError        another key-rotator is at work on the same keys
├── KeysNotReadyError    some keys are missing or could not be looked after; carries the reasons
├── TooEarlyError        the next key is not known well enough yet to sign
├── RevocationError      it isn't clear which keys are to be revoked, or one may not be used since it is
├── KeyFileError         a file of keys can't be read, used or written
└── AdoptionError        another broker's keys can't be taken over
"""


class KeyRotatorError(Exception):
    """Everything this package raises on purpose; the message says what happened and what to do about it."""


class KeyGenerationError(KeyRotatorError):
    """No new key could be made."""


class KeysBusyError(KeyRotatorError):
    """Another key-rotator is at work on the same keys."""


class KeysNotReadyError(KeyRotatorError):
    """Some keys are missing or could not be looked after."""


class TooEarlyError(KeyRotatorError):
    """The next key has not been published long enough to sign."""


class RevocationError(KeyRotatorError):
    """It isn't clear which keys are to be revoked, or a key may not be used since it is."""


class KeyFileError(KeyRotatorError):
    """A file of keys can't be read, used or written."""


class AdoptionError(KeyRotatorError):
    """Another broker's keys can't be taken over."""
