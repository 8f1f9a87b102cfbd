"""Tell which files hold secrets by nature: by their path, or by what stands in them as a whole."""

from __future__ import annotations

import re

from merganser.documents.secrets import find_secrets

_NAMES = frozenset(
    name
    for names in (
        # registries, hosts and databases
        ".npmrc .pypirc .netrc _netrc .git-credentials .pgpass pgpass.conf .my.cnf .mylogin.cnf",
        ".htpasswd .htdigest .dockercfg .dockerconfigjson .s3cfg .boto .databrickscfg .terraformrc",
        "terraform.rc credentials.tfrc.json rclone.conf .rhosts .remote-sync.json .ftpconfig",
        "application_default_credentials.json accesstokens.json msal_token_cache.json",
        "filezilla.xml sitemanager.xml recentservers.xml settings-security.xml kubeconfig",
        ".vault-token .vault_pass .vault-pass vault_pass.txt vault-password.txt",
        ".credentials .secrets",
        # keys
        "id_rsa id_dsa id_ecdsa id_ed25519 id_ecdsa_sk id_ed25519_sk id_xmss master.key .esmtprc",
        # what was typed
        ".bash_history .zsh_history .sh_history .ksh_history .history .histfile fish_history",
        ".python_history .node_repl_history .irb_history .psql_history .mysql_history",
        ".mongo_history .sqlite_history .rediscli_history .dbshell consolehost_history.txt",
    )
    for name in names.split()
)
_SUFFIXES = (
    *(".jks", ".keystore", ".p12", ".pfx", ".pkcs12", ".bks", ".kdbx", ".kdb", ".ppk", ".keytab"),
    *(".tfstate", ".tfstate.backup", ".tfvars", ".tfvars.json", ".kubeconfig"),
    *(".yml.enc", ".yaml.enc", ".json.enc", ".env.enc"),
)
_HIDDEN = re.compile(
    r"(?:^|/)(?:\.aws/(?:credentials|sso/.*|cli/.*)|\.config/gcloud/.*|\.azure/(?:[^/]*token[^/]*|"
    r"service_principal[^/]*|msal[^/]*)|\.docker/config\.json|\.kube/config|\.ssh/(?!config$|known_hosts|"
    r"authorized_keys|.*\.pub$).*|\.gnupg/.*|\.password-store/.*|(?:\.config/)?gh/hosts\.yml|"
    r"\.config/(?:hub|doctl/config\.yaml)|\.cargo/credentials(?:\.toml)?|\.gem/credentials|"
    r"\.composer/auth\.json|\.snowsql/config|\.oci/config|\.fly/config\.yml|"
    r"\.streamlit/secrets\.toml|\.m2/settings\.xml)$"
)
_PLAIN = re.compile(
    r"(?:ssh_host_\w+_key|client_secret[\w.-]*\.json|secrets?\.(?:ya?ml|json|toml|ini|properties))$"
)
# The words of a user interface are said by files of any name.
_TRANSLATED = re.compile(r"(?:^|/)(?:i18n|l10n|locales?|lang|languages|translations|messages)/")
# What stands in place of the values, for somebody who makes a file of their own.
_SHOWS_HOW = re.compile(
    r"[._-](?:examples?|samples?|templates?|tmpl|tpl|dist|defaults?|schema|j2|erb|md|rst|py|ts|js)"
    r"(?=[._-]|$)"
)
_ENVIRONMENT = re.compile(r"\.env(?:rc)?(?:[._-].*)?$|.+\.env$")

_KEY_SUFFIXES = (".pem", ".key", ".crt", ".cer", ".cert", ".priv", ".pvk", ".asc", ".rsa")
_VAULT = "$ANSIBLE_VAULT;"
_MANIFEST = re.compile(r"^kind:[ \t]*[\"']?Secret[\"']?[ \t\r]*$", re.MULTILINE)
_MANIFEST_DATA = re.compile(r"^(?:data|stringData):[ \t\r]*$", re.MULTILINE)


def refuse_secret_path(path: str) -> str:
    """Return why a file is known by its path to hold secrets; empty when it is not.

    Args:
        path: Its path or the end of it, with ``/``.

    >>> refuse_secret_path("shop/.env.local"), refuse_secret_path("shop/.env.example")
    ('by its name', '')
    """
    lowered = path.lower()
    name = lowered.rpartition("/")[2]
    if (
        name in _NAMES
        or name.endswith(_SUFFIXES)
        or (".env" in name and _ENVIRONMENT.match(name))
        or (_PLAIN.match(name) and not _is_harmless(lowered, name))
        or (name.endswith(".key") and "config/credentials/" in lowered)
        or ("/." in f"/{path}" and _HIDDEN.search(lowered))
    ):
        return "" if _SHOWS_HOW.search(name) else "by its name"
    return ""


def _is_harmless(path: str, name: str) -> bool:
    """Return whether a file of a secret's name is a template of Helm, or holds words."""
    return path.endswith(f"templates/{name}") or bool(_TRANSLATED.search(path))


def refuse_secret_text(path: str, text: str) -> str:
    r"""Return what makes the whole of a text a secret; empty when nothing does.

    Args:
        path: The file's path or the end of it.
        text: What the file says.

    >>> refuse_secret_text("group_vars.yml", "$ANSIBLE_VAULT;1.1;AES256\n6638")
    'encrypted by Ansible Vault'
    """
    lowered = path.lower()
    if text.startswith(_VAULT):
        return "encrypted by Ansible Vault"
    if lowered.endswith(_KEY_SUFFIXES):
        return _describe_key(text)
    if lowered.endswith(".json"):
        is_docker = '"auths"' in text and ('"auth"' in text or '"identitytoken"' in text)
        return "passwords of container registries" if is_docker else ""
    if not lowered.endswith((".yaml", ".yml")):
        return ""
    if "client-key-data:" in text or ("kind: Config" in text and "\n    token:" in text):
        return "access to a cluster"
    if "Secret" in text and "{{" not in text and _MANIFEST.search(text):
        return "a Secret of Kubernetes" if _MANIFEST_DATA.search(text) else ""
    return ""


def _describe_key(text: str) -> str:
    """Say that there is a private key; a certificate or a public key alone is no secret."""
    found = any(secret.kind == "private-key" for secret in find_secrets(text))
    return "a private key" if found else ""
