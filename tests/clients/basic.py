"""redis-py against the server at argv[1]: what an application does on its first day, on RESP2 and RESP3."""

import sys

import redis


def check(seen, wanted):
    if seen != wanted:
        raise AssertionError(f"{seen!r} instead of {wanted!r}")


def fails(text, act):
    try:
        act()
    except redis.ResponseError as error:
        check(str(error), text)
    else:
        raise AssertionError(f"no error {text!r}")


def strings(r):
    check(r.set("greeting", "hello"), True)
    check(r.get("greeting"), "hello")
    check(r.set("greeting", "again", nx=True), None)
    check(r.set("greeting", "again", get=True), "hello")
    check(r.append("greeting", "!"), 6)
    check(r.getrange("greeting", 0, 2), "aga")
    check(r.mset({f"many:{i}": i for i in range(50)}), True)
    check(r.mget([f"many:{i}" for i in range(50)] + ["none"]), [str(i) for i in range(50)] + [None])
    check(r.incrby("counter", 41), 41)
    check(r.incr("counter"), 42)
    check(float(r.incrbyfloat("real", 2.5)), 2.5)
    check(r.getdel("greeting"), "again!")
    fails("value is not an integer or out of range", lambda: r.set("text", "x") and r.incr("text"))


def keys(r):
    check(sorted(r.scan_iter(match="many:*", count=7)), sorted(f"many:{i}" for i in range(50)))
    check(len(r.keys("many:?")), 10)
    check(r.set("brief", 1, ex=100), True)
    check(0 < r.ttl("brief") <= 100, True)
    check(r.expire("brief", 200, gt=True), True)
    check(r.persist("brief"), True)
    check(r.ttl("brief"), -1)
    check(r.ttl("none"), -2)
    check(r.type("brief"), "string")
    check(r.rename("brief", "long"), True)
    check(r.exists("brief", "long"), 1)
    check(r.object("encoding", "long"), "int")
    check(r.delete(*[f"many:{i}" for i in range(50)]), 50)


def hashes(r):
    check(r.hset("user", mapping={"name": "Ada", "born": 1815}), 2)
    check(r.hset("user", "name", "Ada Lovelace"), 0)
    check(r.hget("user", "name"), "Ada Lovelace")
    check(r.hmget("user", ["name", "none"]), ["Ada Lovelace", None])
    check(r.hgetall("user"), {"name": "Ada Lovelace", "born": "1815"})
    check((r.hlen("user"), r.hexists("user", "born"), r.hstrlen("user", "born")), (2, True, 4))
    check((r.hincrby("user", "visits", 3), float(r.hincrbyfloat("user", "visits", 0.5))), (3, 3.5))
    check(r.object("encoding", "user"), "listpack")
    check(r.hset("large", mapping={f"f{i}": i for i in range(1000)}), 1000)
    check(r.object("encoding", "large"), "hashtable")
    check(dict(r.hscan_iter("large", match="f9?", count=100)), {f"f9{i}": f"9{i}" for i in range(10)})
    check(len(r.hrandfield("large", 7, withvalues=False)), 7)
    check(r.hdel("large", *[f"f{i}" for i in range(1000)]), 1000)
    check(r.exists("large"), 0)
    fails("WRONGTYPE Operation against a key holding the wrong kind of value", lambda: r.get("user"))


def limits(r):
    check(r.config_set("maxmemory-policy", "allkeys-lru"), True)
    check(r.config_get("maxmemory*")["maxmemory-policy"], "allkeys-lru")
    check(r.memory_usage("user") > 0, True)
    check(r.memory_stats()["keys.count"] > 0, True)
    check(r.config_set("maxmemory-policy", "noeviction"), True)
    check(r.command_count() > 70, True)
    check(r.client_pause(1), True)
    check(r.client_unpause(), "OK")


def pipelines(r):
    pipe = r.pipeline(transaction=False)
    for i in range(1000):
        pipe.set(f"p:{i}", i)
        pipe.get(f"p:{i}")
    check(pipe.execute(), [reply for i in range(1000) for reply in (True, str(i))])
    pipe.set("text", "x")
    pipe.incr("text")
    pipe.get("text")
    first, second, third = pipe.execute(raise_on_error=False)
    check((first, type(second), third), (True, redis.ResponseError, "x"))


def server(r):
    check(r.ping(), True)
    check(r.echo("\u00e4\u20ac"), "\u00e4\u20ac")
    check(r.client_setname("basic"), True)
    check(r.client_getname(), "basic")
    check([c["name"] for c in r.client_list(client_id=[r.client_id()])], ["basic"])
    info = r.info()
    check((info["redis_version"], info["server_name"]), ("7.2.4", "eagledb"))
    check(r.config_get("maxclients"), {"maxclients": "10000"})
    check(r.dbsize() > 0, True)
    check(len(r.time()), 2)
    check(r.flushdb(), True)
    check(r.dbsize(), 0)


def main(port):
    for protocol in (2, 3):
        with redis.Redis(port=port, protocol=protocol, decode_responses=True, single_connection_client=True) as r:
            for part in (strings, keys, hashes, limits, pipelines, server):
                part(r)
    raw = redis.Redis(port=port, db=5)
    blob = bytes(range(256)) * 4096
    check(raw.set(b"\x00\r\n", blob), True)
    check(raw.get(b"\x00\r\n"), blob)
    check(redis.Redis(port=port).exists(b"\x00\r\n"), 0)


main(int(sys.argv[1]))
