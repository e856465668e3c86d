"""redis-py over TLS, with a certificate (argv: port, authority, certificate, key), as the user "app" who may do some of it."""

import sys

import redis


def check(seen, wanted):
    if seen != wanted:
        raise AssertionError(f"{seen!r} instead of {wanted!r}")


def denied(text, act):
    try:
        act()
    except redis.exceptions.NoPermissionError as error:
        check(str(error), text)
    else:
        raise AssertionError(f"not denied: {text!r}")


port, ca, cert, key = sys.argv[1:]
for protocol in (2, 3):
    options = dict(host="localhost", port=int(port), ssl=True, ssl_ca_certs=ca, ssl_certfile=cert, ssl_keyfile=key,
                   protocol=protocol, decode_responses=True)
    admin = redis.Redis(**options)
    admin.mset({"shared:1": "s", "private": "p"})
    app = redis.Redis(username="app", password="pw", **options)
    check(app.acl_whoami(), "app")
    check(app.set("app:1", "x" * 100_000), True)
    check(app.get("app:1"), "x" * 100_000)
    check(app.get("shared:1"), "s")
    denied("No permissions to access a key", lambda: app.set("shared:1", "t"))
    denied("No permissions to access a key", lambda: app.get("private"))
    denied("User app has no permissions to run the 'flushall' command", lambda: app.flushall())
    with app.pipeline(transaction=False) as pipe:
        for i in range(1000):
            pipe.set(f"app:{i}", i)
        check(pipe.execute(), [True] * 1000)
    user = admin.acl_getuser("app")
    check(user["enabled"], True)
    check(user["keys"], "~app:* %R~shared:*" if isinstance(user["keys"], str) else ["~app:*", "%R~shared:*"])
    reasons = {(entry["reason"], entry["object"], entry["username"]) for entry in admin.acl_log()}
    check(reasons >= {("key", "private", "app"), ("command", "flushall", "app")}, True)
    try:
        redis.Redis(username="app", password="wrong", **options).ping()
    except redis.exceptions.AuthenticationError:
        pass
    else:
        raise AssertionError("a wrong password is taken")
    check(admin.acl_log_reset(), True)
