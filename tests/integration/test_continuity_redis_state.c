/* test_continuity_redis_state.c - the suite's keys saved from one real Redis and restored into another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "../harness.h"
#include "common/clock.h"
#include "continuity/backup_redis.h"
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS 3000

struct world {
    struct harness *h;
    struct loop loop;
    struct harness_proc *from, *to;
    struct store *a, *b;
    char dir[700], path[800];
};
struct ended {
    int n;
    bool ok, refused;
    uint64_t left_out;
    struct backup_copy_sum sum;
    char text[ERR_TEXT_MAX];
};
struct reply {
    bool done;
    enum store_status st;
    long long integer;
    size_t len;
    char str[512];
    char *bytes;
};

static void turn(struct world *w)
{
    bool never = false;
    (void)loop_run_until(&w->loop, &never, 2);
}

#define WAIT(w, cond)                                                                                                \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + HARNESS_WAIT_MS;                                                         \
        while (!(cond)) {                                                                                            \
            if (clock_mono_ms() >= end_ms_)                                                                          \
                fail_msg("waited in vain for: %s", #cond);                                                           \
            turn(w);                                                                                                 \
        }                                                                                                            \
    } while (0)

static void on_reply(void *ctx, enum store_status st, const redisReply *r)
{
    struct reply *x = ctx;
    x->done = true;
    x->st = st;
    if (r && (r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS || r->type == REDIS_REPLY_ERROR)) {
        x->len = r->len;
        snprintf(x->str, sizeof x->str, "%s", r->str);
        x->bytes = malloc(r->len + 1);
        assert_non_null(x->bytes);
        memcpy(x->bytes, r->str, r->len);
    } else if (r) {
        x->integer = r->integer;
    }
}

static struct reply ask(struct world *w, struct store *s, int argc, const char *const *argv)
{
    struct reply x = {0};
    store_cmd(s, on_reply, &x, argc, argv, NULL);
    WAIT(w, x.done);
    return x;
}
#define ASK(w, s, ...)                                                                                               \
    ask(w, s, (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)), (const char *const[]){__VA_ARGS__})

static long long number(struct world *w, struct store *s, const char *command, const char *key)
{
    struct reply r = ASK(w, s, command, key);
    free(r.bytes);
    assert_int_equal(r.st, STORE_OK);
    return r.integer;
}

static void done(struct world *w, struct reply r)
{
    (void)w;
    assert_int_equal(r.st, STORE_OK);
    free(r.bytes);
}

static long long size_of(struct world *w, struct store *s)
{
    struct reply r = ASK(w, s, "DBSIZE");
    return r.integer;
}

static void on_end(void *ctx, const struct backup_copy_end *r)
{
    struct ended *x = ctx;
    x->n++;
    x->ok = r->ok;
    x->refused = r->refused;
    x->left_out = r->left_out;
    x->sum = r->sum;
    snprintf(x->text, sizeof x->text, "%s", r->text);
}

static struct store *connect_to(struct world *w, struct harness_proc *p)
{
    struct err e = {""};
    struct store *s = store_open(
        &w->loop, &(struct store_opts){.host = "127.0.0.1", .port = p->port, .command_timeout_ms = 5000}, &e);
    assert_non_null(s);
    WAIT(w, store_up(s));
    return s;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->h = harness_open();
    w->from = harness_redis(w->h, "from", NULL);
    w->to = harness_redis(w->h, "to", NULL);
    if (loop_init(&w->loop))
        return -1;
    w->a = connect_to(w, w->from);
    w->b = connect_to(w, w->to);
    snprintf(w->dir, sizeof w->dir, "%s/copy", harness_dir(w->h));
    snprintf(w->path, sizeof w->path, "%s/" BACKUP_REDIS_FILE, w->dir);
    *state = w;
    return 0;
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static int teardown(void **state)
{
    struct world *w = *state;
    bool closed[2] = {false, false};
    store_close(w->a, set_true, &closed[0]);
    store_close(w->b, set_true, &closed[1]);
    (void)loop_run_until(&w->loop, &closed[0], HARNESS_WAIT_MS);
    (void)loop_run_until(&w->loop, &closed[1], HARNESS_WAIT_MS);
    loop_done(&w->loop);
    harness_close(w->h);
    free(w);
    return 0;
}

static struct ended save(struct world *w)
{
    struct ended x = {0};
    (void)backup_redis_save(&(struct backup_redis_opts){.loop = &w->loop, .store = w->a, .dir = w->dir}, on_end, &x);
    assert_int_equal(x.n, 0);
    WAIT(w, x.n == 1);
    return x;
}

static struct ended restore(struct world *w, bool force)
{
    struct ended x = {0};
    (void)backup_redis_restore(
        &(struct backup_redis_opts){.loop = &w->loop, .store = w->b, .dir = w->dir, .force = force}, on_end, &x);
    WAIT(w, x.n == 1);
    return x;
}

/* Of every type, with and without an end; and what is not the suite's, or of a process. */
static int fill(struct world *w)
{
    for (int i = 0; i < KEYS; i++) {
        char key[64], value[64];
        snprintf(key, sizeof key, "redoubt:{a:agent-%d}:doc", i);
        snprintf(value, sizeof value, "document %d", i);
        store_cmd(w->a, NULL, NULL, 6, (const char *const[]){"HSET", key, "doc", value, "rev", "7"}, NULL);
    }
    done(w, ASK(w, w->a, "ZADD", "redoubt:{al}:open", "5", "one", "6", "two"));
    done(w, ASK(w, w->a, "SADD", "redoubt:{x}:set", "1", "2"));
    done(w, ASK(w, w->a, "RPUSH", "redoubt:{x}:list", "one", "two"));
    done(w, ASK(w, w->a, "SET", "redoubt:{lease:continuity}:fence", "1764000000123"));
    done(w, ASK(w, w->a, "SET", "redoubt:{h:x}:paid", "1", "PX", "3600000"));
    /* Bytes of every kind, in key and value. */
    const char *argv[] = {"SET", "redoubt:{b}:\r\n\xff", "\0\xff\r\n*1\r\n"};
    const size_t lens[] = {3, 15, 9};
    struct reply r = {0};
    store_cmd(w->a, on_reply, &r, 3, argv, lens);
    WAIT(w, r.done);
    free(r.bytes);
    assert_int_equal(r.st, STORE_OK);
    done(w, ASK(w, w->a, "SET", "redoubt:{lease:continuity}", "7 somebody", "PX", "3600000"));
    done(w, ASK(w, w->a, "ZADD", "redoubt:{health}:members", "1", "somebody"));
    done(w, ASK(w, w->a, "SET", "else:key", "1"));
    assert_int_equal(size_of(w, w->a), KEYS + 9);
    return KEYS + 6;
}

static void the_whole_is_the_same_elsewhere(void **state)
{
    struct world *w = *state;
    struct backup_copy_sum sum;
    struct err e;
    int n = fill(w);
    struct ended x = save(w);
    assert_string_equal(x.ok ? "" : x.text, "");
    assert_int_equal(x.sum.items, n);
    assert_int_equal(backup_redis_verify(w->dir, NULL, &sum, &e), 0);
    assert_int_equal(sum.items, n);
    assert_int_equal(sum.bytes, x.sum.bytes);

    x = restore(w, false);
    assert_string_equal(x.ok ? "" : x.text, "");
    assert_int_equal(size_of(w, w->b), n);
    assert_int_equal(x.left_out, 0);
    /* DUMP holds type, encoding, content and a checksum. */
    static const char *const keys[] = {
        "redoubt:{a:agent-0}:doc", "redoubt:{a:agent-2999}:doc",       "redoubt:{al}:open", "redoubt:{x}:set",
        "redoubt:{x}:list",        "redoubt:{lease:continuity}:fence", "redoubt:{h:x}:paid"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct reply was = ASK(w, w->a, "DUMP", keys[i]), is = ASK(w, w->b, "DUMP", keys[i]);
        assert_int_equal(was.len, is.len);
        assert_true(was.len > 0);
        assert_memory_equal(was.bytes, is.bytes, was.len);
        free(was.bytes);
        free(is.bytes);
    }
    assert_int_equal(number(w, w->b, "EXISTS", "redoubt:{lease:continuity}"), 0);
    assert_int_equal(number(w, w->b, "EXISTS", "redoubt:{health}:members"), 0);
    assert_int_equal(number(w, w->b, "PTTL", "redoubt:{a:agent-0}:doc"), -1);
    long long left = number(w, w->b, "PTTL", "redoubt:{h:x}:paid");
    assert_true(left > 0 && left <= 3600000);

    /* It is there now: only by force, and then it is as it was saved. */
    done(w, ASK(w, w->b, "HSET", "redoubt:{a:agent-0}:doc", "rev", "8"));
    x = restore(w, false);
    assert_false(x.ok);
    assert_true(x.refused);
    assert_non_null(strstr(x.text, "--force"));
    struct reply r = ASK(w, w->b, "HGET", "redoubt:{a:agent-0}:doc", "rev");
    assert_string_equal(r.str, "8");
    free(r.bytes);
    x = restore(w, true);
    assert_string_equal(x.ok ? "" : x.text, "");
    r = ASK(w, w->b, "HGET", "redoubt:{a:agent-0}:doc", "rev");
    assert_string_equal(r.str, "7");
    free(r.bytes);
}

static void what_is_over_stays_away(void **state)
{
    struct world *w = *state;
    done(w, ASK(w, w->a, "SET", "redoubt:{k}:short", "1", "PX", "400"));
    done(w, ASK(w, w->a, "SET", "redoubt:{k}:long", "1"));
    struct ended x = save(w);
    assert_int_equal(x.sum.items, 2);
    assert_true(x.sum.saved_unix_ms <= clock_wall_ms() && x.sum.saved_unix_ms > clock_wall_ms() - 60000);
    WAIT(w, number(w, w->a, "EXISTS", "redoubt:{k}:short") == 0);
    x = restore(w, false);
    assert_string_equal(x.ok ? "" : x.text, "");
    assert_int_equal(x.left_out, 1);
    assert_int_equal(number(w, w->b, "EXISTS", "redoubt:{k}:short"), 0);
    assert_int_equal(size_of(w, w->b), 1);
}

static void damage(struct world *w, off_t at, bool from_end)
{
    struct stat st;
    unsigned char c;
    int fd = open(w->path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    off_t where = from_end ? st.st_size - at : at;
    assert_int_equal(pread(fd, &c, 1, where), 1);
    c ^= 0xff;
    assert_int_equal(pwrite(fd, &c, 1, where), 1);
    close(fd);
}

static void a_damaged_copy_is_refused(void **state)
{
    struct world *w = *state;
    struct stat st;
    done(w, ASK(w, w->a, "SET", "redoubt:{k}:one", "a value of some length, so that there is room for damage"));
    done(w, ASK(w, w->a, "SET", "redoubt:{k}:two", "another"));
    assert_true(save(w).ok);
    assert_int_equal(stat(w->path, &st), 0);
    /* Wherever one byte is another: it is found, nothing is restored, and nothing crashes. */
    for (off_t at = 0; at < st.st_size; at++) {
        struct backup_copy_sum sum;
        struct err e = {""};
        damage(w, at, false);
        if (backup_redis_verify(w->dir, NULL, &sum, &e) == 0)
            fail_msg("byte %d is another, and it verifies", (int)at);
        assert_true(*e.text);
        damage(w, at, false);
    }
    for (off_t len = 0; len < st.st_size; len += 5) {
        struct backup_copy_sum sum;
        struct err e = {""};
        assert_true(save(w).ok);
        assert_int_equal(truncate(w->path, len), 0);
        assert_int_equal(backup_redis_verify(w->dir, NULL, &sum, &e), -1);
    }
    struct ended x = restore(w, true);
    assert_false(x.ok);
    assert_int_equal(unlink(w->path), 0);
    x = restore(w, true);
    assert_false(x.ok);
    assert_non_null(strstr(x.text, "No such file"));
    assert_int_equal(size_of(w, w->b), 0);
}

static void redis_goes_midway(void **state)
{
    struct world *w = *state;
    struct ended x = {0};
    struct backup_copy_sum sum;
    struct err e;
    int n = fill(w);
    assert_true(save(w).ok);
    /* Frozen, so that the copy is under way for certain when it dies. */
    harness_freeze(w->from);
    (void)backup_redis_save(&(struct backup_redis_opts){.loop = &w->loop, .store = w->a, .dir = w->dir}, on_end, &x);
    for (int i = 0; i < 5; i++)
        turn(w);
    assert_int_equal(x.n, 0);
    harness_kill(w->from);
    WAIT(w, x.n == 1);
    assert_false(x.ok);
    assert_non_null(strstr(x.text, "Redis"));
    /* The copy before is still there, and whole. */
    assert_int_equal(backup_redis_verify(w->dir, NULL, &sum, &e), 0);
    assert_int_equal(sum.items, n);

    harness_freeze(w->to);
    x = (struct ended){0};
    (void)backup_redis_restore(
        &(struct backup_redis_opts){.loop = &w->loop, .store = w->b, .dir = w->dir, .force = true}, on_end, &x);
    for (int i = 0; i < 5; i++)
        turn(w);
    harness_kill(w->to);
    WAIT(w, x.n == 1);
    assert_false(x.ok);
    harness_start(w->to);
    WAIT(w, store_up(w->b));
    x = restore(w, true);
    assert_string_equal(x.ok ? "" : x.text, "");
    assert_int_equal(size_of(w, w->b), n);
}

static void dropped_midway(void **state)
{
    struct world *w = *state;
    struct ended x = {0};
    (void)fill(w);
    for (int turns = 0; turns < 8; turns++) {
        struct backup_redis *c = backup_redis_save(
            &(struct backup_redis_opts){.loop = &w->loop, .store = w->a, .dir = w->dir}, on_end, &x);
        for (int i = 0; i < turns; i++)
            turn(w);
        if (x.n == 0)
            backup_redis_drop(c);
        x.n = 0;
    }
    backup_redis_drop(NULL);
    assert_true(save(w).ok);
    assert_int_equal(x.n, 0);
}

static void which_keys_are_saved(void **state)
{
    static const struct {
        const char *key;
        bool wanted;
    } rows[] = {
        {"redoubt:{a:x}:doc", true},
        {"redoubt:{lease:rb:x}", false},
        {"redoubt:{lease:rb:x}:fence", true},
        {"redoubt:{health}:members", false},
        {"redoubt:{health}:generation", true},
        {"redoubt:", true},
        {"redoubt", false},
        {"", false},
        {"other:{lease:x}:fence", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (backup_redis_wants(rows[i].key, strlen(rows[i].key)) != rows[i].wanted)
            fail_msg("%s", rows[i].key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(which_keys_are_saved),
        cmocka_unit_test_setup_teardown(the_whole_is_the_same_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_over_stays_away, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_copy_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(redis_goes_midway, setup, teardown),
        cmocka_unit_test_setup_teardown(dropped_midway, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
