/* test_common_store.c - the store against a real Redis: answers, outages of every kind, deadlines, scripts. */
#include "../harness.h"
#include "common/store.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct env {
    struct harness *h;
    struct loop loop;
    struct store *store;
    bool up, closed;
    int ups, downs;
};

struct answer {
    bool done;
    int calls;
    enum store_status st;
    int type;
    long long integer;
    char text[256];
};

static void on_up(void *ctx)
{
    struct env *v = ctx;
    v->up = true;
    v->ups++;
}

static void on_down(void *ctx)
{
    struct env *v = ctx;
    v->up = false;
    v->downs++;
}

static void on_closed(void *ctx)
{
    ((struct env *)ctx)->closed = true;
}

static void on_answer(void *ctx, enum store_status st, const redisReply *r)
{
    struct answer *a = ctx;
    a->done = true;
    a->calls++;
    a->st = st;
    assert_true((r != NULL) == (st == STORE_OK || st == STORE_ERROR));
    if (!r)
        return;
    a->type = r->type;
    a->integer = r->integer;
    snprintf(a->text, sizeof a->text, "%s", r->str ? r->str : "");
}

static int set_up(void **state)
{
    struct env *v = calloc(1, sizeof *v);
    signal(SIGPIPE, SIG_IGN);
    v->h = harness_open();
    assert_int_equal(loop_init(&v->loop), 0);
    *state = v;
    return 0;
}

static void shut(struct env *v)
{
    if (!v->store)
        return;
    v->closed = false;
    store_close(v->store, on_closed, v);
    v->store = NULL;
    v->up = false;
    assert_true(loop_run_until(&v->loop, &v->closed, HARNESS_WAIT_MS));
}

static int tear_down(void **state)
{
    struct env *v = *state;
    shut(v);
    loop_done(&v->loop);
    harness_close(v->h);
    free(v);
    return 0;
}

static void open_with(struct env *v, const char *host, int port, const char *user, const char *password)
{
    struct err e = {""};
    v->store = store_open(&v->loop,
                          &(struct store_opts){.host = host,
                                               .port = port,
                                               .user = user,
                                               .password = password,
                                               .command_timeout_ms = 300,
                                               .on_up = on_up,
                                               .on_down = on_down,
                                               .ctx = v},
                          &e);
    assert_non_null(v->store);
    assert_false(store_up(v->store));
}

static void wait_up(struct env *v)
{
    assert_true(loop_run_until(&v->loop, &v->up, HARNESS_WAIT_MS));
    assert_true(store_up(v->store));
}

static void wait_answer(struct env *v, struct answer *a)
{
    assert_true(loop_run_until(&v->loop, &a->done, HARNESS_WAIT_MS));
    assert_int_equal(a->calls, 1);
}

/* Up to 4 words, one answer. */
static struct answer ask(struct env *v, const char *a, const char *b, const char *c, const char *d)
{
    const char *argv[] = {a, b, c, d};
    struct answer r = {0};
    store_cmd(v->store, on_answer, &r, d ? 4 : c ? 3 : b ? 2 : 1, argv, NULL);
    assert_false(r.done);
    wait_answer(v, &r);
    return r;
}

static void commands_and_errors(void **state)
{
    struct env *v = *state;
    struct harness_proc *redis = harness_redis(v->h, "redis", NULL);
    open_with(v, harness_localhost(), redis->port, NULL, NULL); /* ::1 is refused first, then 127.0.0.1 */
    wait_up(v);
    struct answer a = ask(v, "SET", "k", "v", NULL);
    assert_int_equal(a.st, STORE_OK);
    a = ask(v, "GET", "k", NULL, NULL);
    assert_string_equal(a.text, "v");
    a = ask(v, "INCR", "k", NULL, NULL);
    assert_int_equal(a.st, STORE_ERROR);
    assert_non_null(strstr(a.text, "integer"));
    assert_non_null(strstr(store_last_error(v->store), "integer"));

    /* Bytes of any kind, and many commands in one turn, answered in order. */
    enum { N = 20000 };
    static struct answer many[N];
    memset(many, 0, sizeof many);
    for (int i = 0; i < N; i++)
        store_cmd(v->store, on_answer, &many[i], 2, (const char *[]){"INCR", "n"}, NULL);
    store_cmd(v->store, NULL, NULL, 2, (const char *[]){"INCR", "n"}, NULL);
    assert_true(loop_run_until(&v->loop, &many[N - 1].done, HARNESS_WAIT_MS));
    for (int i = 0; i < N; i++) {
        assert_int_equal(many[i].calls, 1);
        assert_int_equal(many[i].integer, i + 1);
    }
    struct answer b = {0};
    store_cmd(v->store, on_answer, &b, 3, (const char *[]){"SET", "bin", "a\0b"}, (const size_t[]){3, 3, 3});
    wait_answer(v, &b);
    b = ask(v, "STRLEN", "bin", NULL, NULL);
    assert_int_equal(b.integer, 3);

    /* A large value takes several writes and reads. */
    size_t big =
        2u
        << 20; /* hiredis copies what it has with each piece that comes: under a sanitizer that is what takes the time */
    char *value = malloc(big);
    memset(value, 'x', big);
    struct answer c = {0};
    store_cmd(v->store, on_answer, &c, 3, (const char *[]){"SET", "big", value}, (const size_t[]){3, 3, big});
    free(value);
    wait_answer(v, &c);
    assert_int_equal(c.st, STORE_OK);
    c = ask(v, "GET", "big", NULL, NULL);
    assert_int_equal(c.st, STORE_OK);
}

static void killed_and_restarted(void **state)
{
    struct env *v = *state;
    struct harness_proc *redis = harness_redis(v->h, "redis", NULL);
    open_with(v, "127.0.0.1", redis->port, NULL, NULL);
    wait_up(v);
    struct answer a = {0};
    store_cmd(v->store, on_answer, &a, 3, (const char *[]){"BLPOP", "nothing", "0"}, NULL);
    struct answer warm = {0};
    store_cmd(v->store, on_answer, &warm, 1, (const char *[]){"PING"}, NULL); /* behind it: also in flight */
    harness_kill(redis);
    bool never = false;
    for (int i = 0; i < 200 && v->downs == 0; i++)
        (void)loop_run_until(&v->loop, &never, 10);
    assert_int_equal(v->downs, 1);
    wait_answer(v, &a);
    wait_answer(v, &warm);
    assert_int_equal(a.st, STORE_UNKNOWN);
    assert_int_equal(warm.st, STORE_UNKNOWN);
    a = ask(v, "PING", NULL, NULL, NULL);
    assert_int_equal(a.st, STORE_DOWN);
    assert_non_null(strstr(store_last_error(v->store), "127.0.0.1"));
    harness_start(redis);
    wait_up(v);
    assert_int_equal(v->ups, 2);
    a = ask(v, "PING", NULL, NULL, NULL);
    assert_int_equal(a.st, STORE_OK);
}

static void started_late(void **state)
{
    struct env *v = *state;
    struct harness_proc *redis = harness_redis_later(v->h, "redis", NULL);
    open_with(v, "127.0.0.1", redis->port, NULL, NULL);
    struct answer a = ask(v, "PING", NULL, NULL, NULL);
    assert_int_equal(a.st, STORE_DOWN);
    bool never = false;
    while (!store_last_error(v->store)[0])
        (void)loop_run_until(&v->loop, &never, 10);
    assert_non_null(strstr(store_last_error(v->store), "refused"));
    harness_start(redis);
    wait_up(v);
    a = ask(v, "PING", NULL, NULL, NULL);
    assert_string_equal(a.text, "PONG");
}

static void passwords(void **state)
{
    struct env *v = *state;
    struct harness_proc *redis = harness_redis(
        v->h, "redis",
        (const char *[]){"--user", "svc", "on", ">right", "~redoubt:*", "+@all", "--user", "default", "off", NULL});
    bool never = false;
    const char *wrong[][3] = {{"svc", "wrong", "WRONGPASS"}, {NULL, "wrong", "WRONGPASS"}, {NULL, NULL, "NOAUTH"}};
    for (size_t i = 0; i < 3; i++) {
        open_with(v, "127.0.0.1", redis->port, wrong[i][0], wrong[i][1]);
        while (!store_last_error(v->store)[0])
            (void)loop_run_until(&v->loop, &never, 10);
        assert_non_null(strstr(store_last_error(v->store), wrong[i][2]));
        assert_null(strstr(store_last_error(v->store), "wrong "));
        assert_false(v->up);
        shut(v);
    }
    open_with(v, "127.0.0.1", redis->port, "svc", "right");
    wait_up(v);
    struct answer a = ask(v, "SET", "redoubt:x", "1", NULL);
    assert_int_equal(a.st, STORE_OK);
    a = ask(v, "SET", "elsewhere", "1", NULL);
    assert_int_equal(a.st, STORE_ERROR);
    assert_int_equal(strncmp(a.text, "NOPERM", 6), 0);
}

/* What a newer version has written is not touched: until its mark is gone, there is no store. */
static void a_newer_version_s_documents(void **state)
{
    struct env *v = *state;
    struct answer a = {0};
    struct harness_proc *p = harness_redis(v->h, "redis", NULL);
    open_with(v, "127.0.0.1", p->port, NULL, NULL);
    wait_up(v);
    static const struct {
        const char *mark;
        bool ours;
    } rows[] = {{"1", true}, {"2", false}, {"99999999999999999999", false}, {"nonsense", true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        a = (struct answer){0};
        store_cmd(v->store, on_answer, &a, 3, (const char *[]){"SET", "redoubt:{suite}:format", rows[i].mark}, NULL);
        wait_answer(v, &a);
        assert_int_equal(a.st, STORE_OK);
        shut(v);
        open_with(v, "127.0.0.1", p->port, NULL, NULL);
        if (rows[i].ours) {
            wait_up(v);
            continue;
        }
        bool said = false;
        for (int n = 0; n < 5000 && !said; n++) {
            bool never = false;
            (void)loop_run_until(&v->loop, &never, 2);
            said = strstr(store_last_error(v->store), "newer version of Redoubt") != NULL;
        }
        assert_true(said);
        assert_false(v->up);
        shut(v);
        harness_kill(p); /* without persistence: it is empty then, and ours again */
        harness_start(p);
        open_with(v, "127.0.0.1", p->port, NULL, NULL);
        wait_up(v);
    }
}

static void frozen_server(void **state)
{
    struct env *v = *state;
    struct harness_proc *redis = harness_redis(v->h, "redis", NULL);
    open_with(v, "127.0.0.1", redis->port, NULL, NULL);
    wait_up(v);
    harness_freeze(redis);
    int64_t start = clock_mono_ms();
    struct answer a = {0}, b = {0};
    store_cmd(v->store, on_answer, &a, 2, (const char *[]){"INCR", "n"}, NULL);
    store_cmd(v->store, on_answer, &b, 2, (const char *[]){"INCR", "n"}, NULL);
    wait_answer(v, &a);
    wait_answer(v, &b);
    assert_int_equal(a.st, STORE_UNKNOWN);
    assert_int_equal(b.st, STORE_UNKNOWN);
    assert_true(clock_mono_ms() - start >= 300);
    assert_int_equal(v->downs, 1);
    assert_non_null(strstr(store_last_error(v->store), "no answer within 300 ms"));
    harness_thaw(redis);
    wait_up(v);
    a = ask(v, "PING", NULL, NULL, NULL);
    assert_int_equal(a.st, STORE_OK);
}

/* This process is stopped, as it were: the answer is there before the deadline is looked at. */
static void own_pause_is_no_deadline(void **state)
{
    struct env *v = *state;
    struct harness_proc *redis = harness_redis(v->h, "redis", NULL);
    open_with(v, "127.0.0.1", redis->port, NULL, NULL);
    wait_up(v);
    struct answer a = {0};
    store_cmd(v->store, on_answer, &a, 1, (const char *[]){"PING"}, NULL);
    uv_run(&v->loop.uv, UV_RUN_NOWAIT); /* written */
    if (!a.done) {
        int64_t end = clock_mono_ms() + 400;
        while (clock_mono_ms() < end) { /* the loop is held up past the deadline, as by a stopped process */
        }
    }
    wait_answer(v, &a);
    assert_int_equal(a.st, STORE_OK);
    assert_int_equal(v->downs, 0);
}

static struct store_script echo_script = {.name = "echo", .body = "return {KEYS[1], ARGV[1]}"};
static struct store_script bad_script = {.name = "bad", .body = "return this is no Lua"};

static void scripts(void **state)
{
    struct env *v = *state;
    struct harness_proc *redis = harness_redis(v->h, "redis", NULL);
    open_with(v, "127.0.0.1", redis->port, NULL, NULL);
    wait_up(v);
    const char *key = "k", *arg = "v";
    enum { N = 5 };
    struct answer a[N] = {0};
    for (int round = 0; round < 3; round++) {
        memset(a, 0, sizeof a);
        for (int i = 0; i < N; i++)
            store_eval(v->store, &echo_script, on_answer, &a[i], 1, &key, 1, &arg, NULL);
        for (int i = 0; i < N; i++) {
            wait_answer(v, &a[i]);
            assert_int_equal(a[i].st, STORE_OK);
            assert_int_equal(a[i].type, REDIS_REPLY_ARRAY);
        }
        assert_int_equal(echo_script.sha_state, STORE_SHA_KNOWN);
        struct answer f = ask(v, "SCRIPT", "FLUSH", NULL, NULL); /* the next round meets NOSCRIPT */
        assert_int_equal(f.st, STORE_OK);
    }
    struct answer b = {0};
    store_eval(v->store, &bad_script, on_answer, &b, 1, &key, 0, NULL, NULL);
    wait_answer(v, &b);
    assert_int_equal(b.st, STORE_ERROR);
    store_eval(v->store, &echo_script, NULL, NULL, 1, &key, 1, &arg, NULL);
    b = ask(v, "PING", NULL, NULL, NULL);
    assert_int_equal(b.st, STORE_OK);
    harness_kill(redis);
    b = (struct answer){0};
    store_eval(v->store, &echo_script, on_answer, &b, 1, &key, 1, &arg, NULL);
    wait_answer(v, &b);
    assert_true(b.st == STORE_DOWN || b.st == STORE_UNKNOWN);
}

static void closing(void **state)
{
    struct env *v = *state;
    struct harness_proc *redis = harness_redis(v->h, "redis", NULL);
    open_with(v, "127.0.0.1", redis->port, NULL, NULL);
    shut(v); /* before it ever connected */
    open_with(v, harness_localhost(), redis->port, NULL, NULL);
    bool never = false;
    (void)loop_run_until(&v->loop, &never, 0);
    shut(v); /* while the name is looked up, perhaps */
    open_with(v, "127.0.0.1", redis->port, NULL, NULL);
    wait_up(v);
    struct answer a = {0}, b = {0};
    store_cmd(v->store, on_answer, &a, 3, (const char *[]){"BLPOP", "nothing", "0"}, NULL);
    store_cmd(v->store, on_answer, &b, 1, (const char *[]){"PING"}, NULL);
    int downs = v->downs;
    shut(v);
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.calls, 1);
    assert_int_equal(a.st, STORE_CLOSED);
    assert_int_equal(b.st, STORE_CLOSED);
    assert_int_equal(v->downs, downs);
}

struct closer {
    struct env *v;
    struct answer a;
};

static void close_inside(void *ctx, enum store_status st, const redisReply *r)
{
    struct closer *c = ctx;
    struct store *s = c->v->store;
    on_answer(&c->a, st, r);
    if (s) {
        c->v->store = NULL;
        store_close(s, on_closed, c->v);
    }
}

static void closed_inside_an_answer(void **state)
{
    struct env *v = *state;
    struct harness_proc *redis = harness_redis(v->h, "redis", NULL);
    open_with(v, "127.0.0.1", redis->port, NULL, NULL);
    wait_up(v);
    struct closer c[3] = {{.v = v}, {.v = v}, {.v = v}};
    for (int i = 0; i < 3; i++)
        store_cmd(v->store, close_inside, &c[i], 1, (const char *[]){"PING"}, NULL);
    assert_true(loop_run_until(&v->loop, &v->closed, HARNESS_WAIT_MS));
    assert_int_equal(c[0].a.st, STORE_OK);
    assert_int_equal(c[1].a.st, STORE_CLOSED);
    assert_int_equal(c[2].a.st, STORE_CLOSED);
    assert_int_equal(c[1].a.calls + c[2].a.calls, 2);
}

/* Servers that are no Redis: say `greeting` to whoever connects, then nothing. */
static void no_redis(void **state)
{
    struct env *v = *state;
    static const char *const greetings[] = {"HTTP/1.1 400 Bad Request\r\n\r\n",
                                            "+OK\r\n+OK\r\n+OK\r\n",
                                            "-ERR max number of clients reached\r\n",
                                            "*-7\r\n$99999999999999999999\r\n",
                                            "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
                                            ""};
    for (size_t i = 0; i < sizeof greetings / sizeof *greetings; i++) {
        int port = harness_free_port(), fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
        struct sockaddr_in a = {
            .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
        assert_int_equal(listen(fd, 8), 0);
        open_with(v, "127.0.0.1", port, NULL, NULL);
        v->up = false;
        bool never = false;
        (void)loop_run_until(&v->loop, &never, 20);
        int peer = accept(fd, NULL, NULL);
        assert_true(peer >= 0);
        (void)!write(peer, greetings[i], strlen(greetings[i]));
        for (int k = 0; k < 1000 && !store_last_error(v->store)[0]; k++)
            (void)loop_run_until(&v->loop, &never, 10);
        assert_true(store_last_error(v->store)[0] != '\0');
        close(peer);
        close(fd);
        shut(v);
    }
}

static void wrong_options(void **state)
{
    struct env *v = *state;
    struct err e = {""};
    assert_null(store_open(&v->loop, &(struct store_opts){.host = ""}, &e));
    assert_true(e.text[0] != '\0');
    assert_null(store_open(&v->loop, &(struct store_opts){.host = "x", .port = 70000}, &e));
    char name[80]; /* a label over 63 bytes: refused before any server is asked */
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    open_with(v, name, 6379, NULL, NULL);
    bool never = false;
    while (!store_last_error(v->store)[0])
        (void)loop_run_until(&v->loop, &never, 10);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(commands_and_errors),
        T(killed_and_restarted),
        T(started_late),
        T(passwords),
        T(a_newer_version_s_documents),
        T(frozen_server),
        T(own_pause_is_no_deadline),
        T(scripts),
        T(closing),
        T(closed_inside_an_answer),
        T(no_redis),
        T(wrong_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
