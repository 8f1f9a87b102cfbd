"""The forms of tokens and keys, and what a made-up one looks like.

Facts about forms are what the services say of their tokens. There is no rule by randomness alone:
hashes and identifiers look as random as passwords do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class SecretRule:
    """One form of a secret.

    Attributes:
        kind: A short stable word for reports.
        anchors: Every text that holds one contains one of these.
        pattern: The secret, as an expression. Where it has a group, that alone is hidden.
        beside: Words one of which the text says somewhere, where the form alone says too little.
    """

    kind: str
    anchors: tuple[str, ...]
    pattern: str
    beside: tuple[str, ...] = ()

    def find(self, text: str) -> Iterator[re.Match[str]]:
        """Find what has the form, whatever stands around it."""
        return _compile(self.pattern).finditer(text)


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)  # of a hundred, hardly a run needs ten


# Kind, anchor, and what follows the anchor. Letters and digits alone are written A, hexadecimal
# digits H, both with "_" and "-" W; then how many there are.
_WORDS = """
adafruit-key aio_ A{28}
age-key AGE-SECRET-KEY-1 [A-Z0-9]{58}
alibaba-key LTAI A{16,24}
anthropic-key sk-ant- W{24,}
bitbucket-token ATBB A{28,36}
atlassian-token ATATT3 W{100,}
brevo-key xkeysib- H{64}-A{16}
buildkite-token bkua_ H{40}
circleci-token CCIPAT_ A{22}_H{40}
clojars-token CLOJARS_ [a-z0-9]{60}
contentful-token CFPAT- W{43}
crates-token cio A{32}
databricks-token dapi H{32}
deno-token ddp_ A{36}
digitalocean-token dop_v1_ H{64}
digitalocean-token doo_v1_ H{64}
digitalocean-token dor_v1_ H{64}
docker-token dckr_pat_ W{27,}
docker-token dckr_oat_ W{27,}
easypost-key EZAK A{54}
figma-token figd_ W{40,}
fly-token fo1_ W{43}
github-token ghp_ A{36,}
github-token gho_ A{36,}
github-token ghu_ A{36,}
github-token ghs_ A{36,}
github-token ghr_ A{36,}
github-token github_pat_ A{22}_A{59}
gitlab-token glpat- W{20,}
gitlab-token gldt- W{20,}
gitlab-token glrt- W{20,}
gitlab-token glcbt- W{20,}
gitlab-token glptt- H{40}
gitlab-token glft- W{20,}
gitlab-token glsoat- W{20,}
gitlab-token glagent- W{50,}
gitlab-token gloas- H{64}
google-api-key AIza W{35}
google-client-secret GOCSPX- W{28}
grafana-token glsa_ A{32}_H{8}
grafana-token glc_eyJ A{32,}
groq-key gsk_ A{52}
heroku-key HRKU-AA W{58}
jfrog-key AKCp A{69}
jfrog-key cmVmdGtu A{56}
langsmith-key lsv2_pt_ H{32}_H{10}
langsmith-key lsv2_sk_ H{32}_H{10}
linear-key lin_api_ A{40}
netlify-token nfp_ A{36}
newrelic-key NRAK- [A-Z0-9]{27}
notion-token ntn_ A{40,}
npm-token npm_ A{36}
nuget-key oy2 [a-z0-9]{43}
onepassword-token ops_eyJ A{100,}
openai-key sk-proj- W{40,}
openai-key sk-svcacct- W{40,}
openai-key sk-admin- W{40,}
mailgun-key key- H{32}
openai-key sk- A{32,64}
openrouter-key sk-or-v1- H{64}
perplexity-key pplx- A{40,}
planetscale-token pscale_ (?:tkn|pw|oauth)_W{32,}
postman-key PMAK- H{24}-H{34}
prefect-key pnu_ A{36}
prefect-key pnb_ A{36}
pulumi-token pul- H{40}
pypi-token pypi-AgE W{50,}
readme-key rdme_ [a-z0-9]{70}
replicate-token r8_ A{37}
rubygems-key rubygems_ H{48}
sentry-token sntryu_ H{64}
sentry-token sntrys_eyJ A{40,}
shippo-key shippo_live_ H{40}
shopify-token shpat_ H{32}
shopify-token shpca_ H{32}
shopify-token shppa_ H{32}
shopify-token shpss_ H{32}
slack-token xoxb- [0-9]{8,14}-W{16,}
slack-token xoxp- [0-9]{8,14}-W{16,}
slack-token xoxa- [0-9]{8,14}-W{16,}
slack-token xoxr- [0-9]{8,14}-W{16,}
slack-token xoxs- [0-9]{8,14}-W{16,}
slack-token xoxe- A-W{30,}
slack-token xapp- [0-9]-A{8,14}-[0-9]{8,14}-H{32,}
sonarqube-token sqp_ H{40}
sonarqube-token squ_ H{40}
sonarqube-token sqa_ H{40}
square-token sq0atp- W{22}
square-token sq0csp- W{43}
square-token EAAA W{60}
stripe-key sk_live_ A{16,}
stripe-key rk_live_ A{16,}
stripe-key sk_prod_ A{16,}
stripe-key whsec_ A{32,}
supabase-key sbp_ H{40}
supabase-key sb_secret_ W{20,}
tailscale-key tskey- (?:auth|api|client|scim|webhook)-A+-A{20,}
tencent-key AKID A{32}
twilio-key SK H{32}
xai-key xai- A{80}
"""


# Where a word begins, or an escape ends. From each ``eyJ`` of one word on it would take for ever.
_START = (
    r"(?:(?<![\w-])|(?<=\\[nrt])|(?<=%[0-9A-F]{2})|(?<=\\u[0-9a-fA-F]{4})|(?<=\\x[0-9a-fA-F]{2})"
    r"|(?<=[;\[]\dm)|(?<=[;\[]\d\dm))"
)
# Those with such a word too, or with a long run, and with other characters or words in front.
_PHRASES = (
    ("airtable-token", "pat", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    ("aws-key-id", "AKIA ASIA", r"A[KS]IA[A-Z2-7]{16}"),
    (
        "aws-secret-key",
        "ecret ECRET",
        r"(?i:secret[ _-]?(?:access)?_?key)[\"'`]?\s{0,3}[:=,]>?\s?[\"'`]?([\w/+]{40})(?![/+=])",
    ),
    ("azure-access-key", "SharedAccessKey=", r"SharedAccessKey=([A-Za-z0-9+/]{43}=)"),
    ("azure-signature", "sig=", r"[?&;](?:amp;)?sig=([A-Za-z0-9%+/]{40,}(?:%3[Dd]|=))"),
    ("azure-storage-key", "AccountKey=", r"AccountKey=([A-Za-z0-9+/]{86}==)"),
    ("braintree-token", "access_token$", r"access_token\$production\$[0-9a-z]{16}\$[0-9a-f]{32}"),
    ("cloudflare-key", "v1.0-", r"v1\.0-[0-9a-f]{24}-[0-9a-f]{146}"),
    ("discord-webhook", "/api/webhooks/", r"/api/webhooks/(\d{17,20}/[\w-]{60,})"),
    (
        "doppler-token",
        "dp.",
        r"dp\.(?:[a-z]{2,5})\.(?:[a-z0-9-]{2,40}\.)?[A-Za-z0-9]{40,44}",
    ),
    ("dynatrace-token", "dt0c01.", r"dt0c01\.[A-Z2-7]{24}\.[A-Z2-7]{64}"),
    ("firebase-key", ":APA91b", r"AAAA[\w-]{7}:APA91b[\w-]{134}"),
    ("google-token", "ya29.", r"ya29\.[\w-]{40,}"),
    ("google-token", "1//0", r"1//0[\w-]{40,}"),
    ("huggingface-token", "hf_", r"hf_[A-Za-z0-9]{34,40}"),
    ("huggingface-token", "api_org_", r"api_org_[A-Za-z]{34}"),
    ("jwt", "eyJ", rf"{_START}eyJ[\w-]{{10,}}\.eyJ[\w-]{{10,}}\.[\w-]{{20,}}"),
    ("mailchimp-key", "-us", r"[0-9a-f]{32}-us\d{1,2}"),
    ("mapbox-token", "sk.eyJ", r"sk\.eyJ[\w-]{20,}\.[\w-]{20,}"),
    ("sendgrid-key", "SG.", r"SG\.[\w-]{22}\.[\w-]{43}"),
    ("slack-webhook", "hooks.slack.com/", r"hooks\.slack\.com/[a-z]{5,10}/([\w/]{30,})"),
    ("telegram-token", ":AA", r"(?:(?<![A-Za-z0-9])bot)?(\d{8,10}:AA[\w-]{33})"),
    ("terraform-token", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,}"),
    ("vault-token", "hvs.", r"hvs\.[\w-]{24,}"),
    ("vault-token", "hvb.", r"hvb\.[\w-]{24,}"),
)
_DISCORD = SecretRule(
    "discord-token",
    (".",),
    r"[MNO][A-Za-z0-9_-]{23,27}\.[\w-]{6}\.[\w-]{27,38}",
    beside=("iscord", "ISCORD"),
)
# Those that may have no long run.
_TEXTS = (
    ("azure-client-secret", "Q~", r"[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}"),
    (
        "npm-token",
        ":_auth :_pass",
        r":_(?:authToken|auth|password)\s{0,3}=\s{0,3}\"?([^\s\"'$<{]{8,})",
    ),
)


def _word_rules() -> tuple[SecretRule, ...]:
    rules: list[SecretRule] = []
    for line in _WORDS.split("\n"):
        if line:
            kind, anchor, rest = line.split(" ")
            pattern = _SHORT.sub(lambda found: _CLASSES[found[0]], rest)
            rules.append(SecretRule(kind, (anchor,), re.escape(anchor) + pattern))
    return tuple(rules)


_CLASSES = {"A": "[A-Za-z0-9]", "H": "[0-9a-f]", "W": "[A-Za-z0-9_-]"}
_SHORT = re.compile(r"(?<![A-Za-z0-9[])[AHW](?=[{+-])")

WORD_RULES = _word_rules()
"""The anchor stands in a long word that is no plain name: letters, digits, ``_`` and ``-``."""

PHRASE_RULES = (
    *(SecretRule(kind, tuple(a.split()), pattern) for kind, a, pattern in _PHRASES),
    _DISCORD,
)
"""A long run is part of it (see ``long_runs``); the anchor stands in it or close before it."""

TEXT_RULES = tuple(SecretRule(kind, tuple(a.split()), pattern) for kind, a, pattern in _TEXTS)
"""Nothing is known but the anchor."""
