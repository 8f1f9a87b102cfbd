"""Find the request size and the number of requests in flight at which a server embeds fastest.

One slot on a CPU, eight on a GPU, a server that others use too: no fixed setting is good for all,
and none of them says which it is. So the pace is found by climbing: one of the two numbers is
doubled, what the server then does is measured, and the change stays when it pays. Too much in
flight only queues at the server, so a step up that was in vain costs nothing, while a step down
idles slots: it is tried only when the server became slower, and then the queue is made shorter.
A settled pace is looked at all the time and found anew when the server becomes slower or faster.

The measure is Little's law, the tokens of a request over its latency times the requests in flight:
it needs no window of time, so answers that come in bursts do not disturb it.

Whatever was climbed, a request holds as much as the server answers in a quarter of a second. A
fast server is then not sent more requests than the client has time to make, though it may never
have enough to do for a measurement.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Hashable

MOST_TEXTS = 512
MOST_TOKENS = 256 * MOST_TEXTS
MOST_REQUESTS = 32
"""Beyond these nothing was ever gained, and one text that is too long fails a whole request."""

_LEAST_TOKENS = 512
_FIRST_TOKENS = 4_096  # two dozen chunks
_FIRST_REQUESTS = 4  # harmless to one slot, and eight are soon found
_QUICK_SECONDS = 0.25
# What a request costs by itself is little beside this, and it is a long time without progress.
_LONG_SECONDS = 2.0
# Less is within what different texts and neighbours on the machine do to the measure.
_WORTHWHILE = 1.04
# A settled server whose rate leaves these bounds has changed.
_SLOWER, _FASTER = 0.8, 1.3
_FIRST_HOLD, _LONGEST_HOLD = 8, 128  # measurements before a settled pace is questioned
# English and code are near 4 characters a token; the server's own counts take over at once.
_FIRST_TOKENS_PER_CHARACTER = 0.25

Move = Literal["more requests", "more tokens", "fewer requests"]
_MORE: tuple[Move, ...] = ("more requests", "more tokens")
learnt: dict[Hashable, Setting] = {}
"""What was found in this process, by server and model."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How texts are sent.

    Attributes:
        tokens: In one request, about.
        requests: In flight at a time.
    """

    tokens: int
    requests: int


class Pace:
    """The setting of one client of one model, as it is found out.

    Args:
        key: The server and the model: what was found for them in this process is where to begin.
        most_texts: Most texts in one request, or None for what is best.
        most_requests: Most requests in flight, or None for what is best.

    Attributes:
        most_texts: Most texts in one request; less when the server turns out to take less.
        setting: What to send by now.
        round: Grows whenever the setting is measured anew.
        quick_characters: About how much one request may hold and be answered in a quarter of a
            second; 0 before anything was.
    """

    def __init__(
        self,
        key: Hashable = None,
        *,
        most_texts: int | None = None,
        most_requests: int | None = None,
    ) -> None:
        self.most_texts = most_texts or MOST_TEXTS
        self._most_requests = most_requests or MOST_REQUESTS
        self._ceiling = self._most_requests
        self._key = key
        first = learnt.get(key, Setting(_FIRST_TOKENS, _FIRST_REQUESTS))
        self.setting = replace(first, requests=min(first.requests, self._most_requests))
        self.round = 0
        self.quick_characters = 0
        self._best = self.setting
        self._best_rate = 0.0
        self._moves: deque[Move] = deque()
        self._next_moves = _MORE
        self._move: Move = "more requests"
        self._holds = 0
        self._hold = _FIRST_HOLD
        self._characters = self._tokens = 0
        self._begin(self.setting)

    @property
    def characters(self) -> int:
        """About how many characters one request should hold, by the server's count of tokens."""
        return max(1, int(self.setting.tokens / self._tokens_per_character), self.quick_characters)

    def counted(self, characters: int, tokens: int) -> None:
        """Learn from the server's own count how many tokens texts have."""
        if tokens > 0:
            self._characters += characters
            self._tokens += tokens

    def answered(self, began_in: int, characters: int, seconds: float, *, is_fed: bool) -> None:
        """Take note of an answer.

        Args:
            began_in: The ``round`` in which the request was sent.
            characters: Of its texts.
            seconds: Until the answer.
            is_fed: Whether there was enough more to send; if not, a trial says nothing and ends.
        """
        self._learn_what_is_quick(characters, seconds)
        if began_in != self.round:
            return
        if not is_fed:
            self._starve()
            return
        if self._skip:  # it shared the server with requests of the setting before
            self._skip -= 1
            return
        self._sent += characters
        self._seconds += seconds
        self._answers += 1
        if self._answers >= max(4, self.setting.requests // 2):
            self._measured()

    def overloaded(self, began_in: int) -> None:
        """Take note that a request was refused or lost; those of one round count once."""
        if began_in != self.round:
            return
        self._ceiling = max(1, self.setting.requests // 2)
        tokens = self._best.tokens
        if self.setting.requests == 1:
            tokens = max(_LEAST_TOKENS, tokens // 2)
        self._best = Setting(tokens, min(self._best.requests, self._ceiling))
        self._best_rate = 0.0
        self.quick_characters = 0
        self._moves.clear()
        self._hold = _FIRST_HOLD
        self._begin(self._best)

    @property
    def _tokens_per_character(self) -> float:
        return self._tokens / self._characters if self._tokens else _FIRST_TOKENS_PER_CHARACTER

    def _learn_what_is_quick(self, characters: int, seconds: float) -> None:
        """Follow how much is answered in a quarter of a second, step by step upwards."""
        able = int(characters * _QUICK_SECONDS / max(seconds, 1e-3))
        if seconds > _QUICK_SECONDS:
            self.quick_characters = min(self.quick_characters, able)
        else:
            most = int(MOST_TOKENS / self._tokens_per_character)
            self.quick_characters = max(self.quick_characters, min(able, 4 * characters, most))

    def _starve(self) -> None:
        if self.setting == self._best:
            return
        self._starved += 1
        if self._starved >= self.setting.requests:
            self._try_next()

    def _begin(self, setting: Setting) -> None:
        """Send by a setting from now on, and measure it."""
        if setting != self.setting or not self.round:
            self._skip = setting.requests
        self.setting = setting
        self.round += 1
        self._sent = self._answers = self._starved = 0
        self._seconds = 0.0

    def _measured(self) -> None:
        """Set the size that was really sent beside the rate that it gave, and go on from there."""
        is_trial = self.setting != self._best
        sent = int(self._sent / self._answers * self._tokens_per_character)
        self.setting = replace(self.setting, tokens=max(self.setting.tokens, sent))
        if not is_trial:
            self._best = self.setting
        rate = self._sent / max(self._seconds, 1e-9) * self.setting.requests
        self._decide(rate, is_trial=is_trial)

    def _decide(self, rate: float, *, is_trial: bool) -> None:
        if is_trial:
            self._judge(rate)
        elif not self._best_rate:
            self._best_rate = rate
            self._moves = deque(self._next_moves)
            self._next_moves = _MORE
        else:
            self._settle(rate)
        self._try_next()

    def _judge(self, rate: float) -> None:
        """Keep a trial that pays, and go on, the other number first."""
        least = self._best_rate
        least *= 1 / _WORTHWHILE if self._move == "fewer requests" else _WORTHWHILE
        if rate < least:
            return
        self._best, self._best_rate = self.setting, rate
        if self._move == "fewer requests":
            self._moves = deque(("fewer requests", "more tokens"))
        else:
            self._moves = deque((*(m for m in _MORE if m != self._move), self._move))
        if self._key is not None:
            learnt[self._key] = self._best

    def _settle(self, rate: float) -> None:
        """Follow a settled rate; when it left its bounds, or after a while, try again."""
        change = rate / self._best_rate
        if not _SLOWER < change < _FASTER:
            self._best_rate = 0.0  # measured once more, then tried
            self._next_moves = ("fewer requests", *_MORE) if change < 1 else _MORE
            self._hold = _FIRST_HOLD
            self._holds = 0
            return
        self._best_rate += (rate - self._best_rate) / 4
        self._holds += 1
        if self._holds >= self._hold:
            self._holds = 0
            self._hold = min(2 * self._hold, _LONGEST_HOLD)
            self._ceiling = min(2 * self._ceiling, self._most_requests)
            self._moves = deque(_MORE)

    def _try_next(self) -> None:
        """Begin the next trial, or go back to the best setting."""
        while self._moves:
            move = self._moves.popleft()
            trial = self._moved(move)
            if trial is not None:
                self._move = move
                self._begin(trial)
                return
        self._begin(self._best)

    def _moved(self, move: Move) -> Setting | None:
        """Return the setting a step away from the best, or None at a limit."""
        tokens, requests = self._best.tokens, self._best.requests
        match move:
            case "more requests":
                requests = min(2 * requests, self._ceiling)
            case "fewer requests":
                requests = max(1, requests // 2)
            case _:
                tokens = self._more_tokens()
        moved = Setting(tokens, requests)
        return None if moved == self._best else moved

    def _more_tokens(self) -> int:
        tokens, rate = self._best.tokens, self._best_rate * self._tokens_per_character
        if tokens * self._best.requests > rate * _LONG_SECONDS:  # by Little's law, its latency
            return tokens
        return min(2 * tokens, MOST_TOKENS)
