/* test_common_sentinel.c - whom the store believes about the primary: lists, rounds, answers, and every way in which Sentinels can disagree. */
#include "common/store_sentinel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void lists(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n; /* 0 = wrong */
    } all[] = {{"a", 1},
               {"a:1", 1},
               {"a:26379,b,c:3", 3},
               {"[::1]:5,10.0.0.1:65535", 2},
               {"", 0},
               {",", 0},
               {"a,", 0},
               {",a", 0},
               {"a,,b", 0},
               {"a:0", 0},
               {"a:65536", 0},
               {"a:x", 0},
               {"a, b", 0},
               {" a", 0},
               {"a:1:2x", 1},
               {"[::1", 0},
               {"a\tb:1", 0},
               {"a:", 0},
               {"::1", 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct store_sentinels q;
        struct err e = {""};
        int r = store_sentinels_parse(&q, all[i].text, &e);
        if (r != (all[i].n ? 0 : -1) || (all[i].n && q.n != all[i].n))
            fail_msg("`%s`: %d, %zu: %s", all[i].text, r, q.n, e.text);
        if (r == 0)
            assert_int_equal(q.left, q.n);
        else
            assert_true(strlen(e.text) > 10);
    }
    struct store_sentinels q;
    struct err e = {""};
    assert_int_equal(store_sentinels_parse(&q, "one,two:7", &e), 0);
    assert_string_equal(q.each[0].host, "one");
    assert_int_equal(q.each[0].port, 26379);
    assert_int_equal(q.each[1].port, 7);
    char many[STORE_SENTINELS_MAX * 2 + 8] = "a";
    for (int i = 1; i < STORE_SENTINELS_MAX; i++)
        strcat(many, ",a");
    assert_int_equal(store_sentinels_parse(&q, many, &e), 0);
    strcat(many, ",a");
    assert_int_equal(store_sentinels_parse(&q, many, &e), -1);
    char longest[HOSTPORT_HOST_MAX + 64];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(store_sentinels_parse(&q, longest, &e), -1);
}

static struct store_sentinels of(size_t n)
{
    struct store_sentinels q;
    struct err e;
    static const char *const text[] = {"", "a", "a,b", "a,b,c", "a,b,c,d", "a,b,c,d,e"};
    assert_int_equal(store_sentinels_parse(&q, text[n], &e), 0);
    return q;
}

/* A round asks each once, from whomever it begins with. */
static void rounds(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 5; n++)
        for (size_t first = 0; first < n; first++) {
            struct store_sentinels q = of(n);
            unsigned seen = 0;
            size_t times = 0;
            q.at = first;
            store_sentinels_begin(&q);
            do {
                assert_true(q.at < n);
                seen |= 1u << q.at;
                times++;
            } while (store_sentinels_next(&q));
            assert_int_equal(times, n);
            assert_int_equal(seen, (1u << n) - 1);
            assert_false(store_sentinels_next(&q)); /* and stays over */
        }
}

/* Every combination of what up to four Sentinels say: nothing, the present primary, one other, a second other. The rule in words: the first
 * that says the present one ends the round; two that say the same other one move; one that nobody contradicts moves, too. */
static void watching(void **state)
{
    (void)state;
    enum { SILENT, PRESENT, OTHER, THIRD, KINDS };
    static const struct store_place places[KINDS] = {
        [PRESENT] = {"p", 6379}, [OTHER] = {"o", 6379}, [THIRD] = {"p", 6380}};
    for (size_t n = 1; n <= 4; n++)
        for (size_t first = 0; first < n; first++)
            for (unsigned code = 0; code < 1u << (2 * n); code++) {
                struct store_sentinels q = of(n);
                q.at = first;
                q.present = places[PRESENT];
                store_sentinels_begin(&q);
                enum store_sentinels_verdict want = STORE_SENTINELS_STAY, got;
                unsigned last = SILENT;
                size_t asked = 0;
                for (size_t i = 0; i < n; i++) { /* by the words above */
                    unsigned says = code >> (2 * ((first + i) % n)) & 3;
                    if (says == PRESENT) {
                        want = STORE_SENTINELS_STAY;
                        break;
                    }
                    if (says == SILENT)
                        continue;
                    want = STORE_SENTINELS_MOVE;
                    if (says == last)
                        break;
                    last = says;
                }
                do {
                    unsigned says = code >> (2 * q.at) & 3;
                    asked++;
                    got = store_sentinels_heard(&q, says == SILENT ? NULL : &places[says]);
                } while (got == STORE_SENTINELS_ASK);
                if (got != want || asked > n)
                    fail_msg("%zu Sentinels from %zu, answers %x: %d instead of %d after %zu", n, first, code, got,
                             want, asked);
                if (got == STORE_SENTINELS_MOVE)
                    assert_true(q.doubt.port && !store_place_same(&q.doubt, &q.present));
            }
    /* Names are names, whatever their case; a doubt does not live from one round to the next. */
    struct store_sentinels q = of(3);
    struct store_place upper = {"P", 6379}, other = {"o", 1};
    q.present = places[PRESENT];
    store_sentinels_begin(&q);
    assert_int_equal(store_sentinels_heard(&q, &upper), STORE_SENTINELS_STAY);
    store_sentinels_begin(&q);
    assert_int_equal(store_sentinels_heard(&q, &other), STORE_SENTINELS_ASK);
    store_sentinels_begin(&q);
    assert_int_equal(store_sentinels_heard(&q, &other), STORE_SENTINELS_ASK);
}

static redisReply text(int type, const char *s)
{
    return (redisReply){.type = type, .str = (char *)s, .len = strlen(s)};
}

static void what_sentinels_answer(void **state)
{
    (void)state;
    static const struct {
        const char *host, *port;
        bool good;
    } pairs[] = {{"10.0.0.1", "6379", true}, {"redis-2", "1", true}, {"::1", "65535", true}, {"", "6379", false},
                 {"a b", "6379", false},     {"a", "", false},       {"a", "0", false},      {"a", "65536", false},
                 {"a", "6379x", false},      {"a", "-1", false},     {"a", " 1", false},     {"a", "123456", false}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        redisReply host = text(REDIS_REPLY_STRING, pairs[i].host), port = text(REDIS_REPLY_STRING, pairs[i].port);
        redisReply *both[] = {&host, &port};
        redisReply r = {.type = REDIS_REPLY_ARRAY, .elements = 2, .element = both};
        struct store_place p = {"untouched", 0};
        struct err e = {""};
        enum store_sentinel_says says = store_sentinel_read(&r, &p, &e);
        assert_int_equal(says, pairs[i].good ? STORE_SENTINEL_NAMES : STORE_SENTINEL_NO);
        if (pairs[i].good) {
            assert_string_equal(p.host, pairs[i].host);
            assert_int_equal(p.port, atoi(pairs[i].port));
        } else {
            assert_string_equal(p.host, "untouched");
            assert_true(*e.text);
        }
        r.elements = 1;
        assert_int_equal(store_sentinel_read(&r, &p, &e), STORE_SENTINEL_NO);
        r.elements = 0;
        assert_int_equal(store_sentinel_read(&r, &p, &e), STORE_SENTINEL_NO);
    }
    char longest[HOSTPORT_HOST_MAX + 1];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    redisReply host = text(REDIS_REPLY_STRING, longest), port = text(REDIS_REPLY_STRING, "1");
    redisReply number = {.type = REDIS_REPLY_INTEGER, .integer = 6379};
    redisReply *both[] = {&host, &port};
    redisReply r = {.type = REDIS_REPLY_ARRAY, .elements = 2, .element = both};
    struct store_place p;
    struct err e;
    assert_int_equal(store_sentinel_read(&r, &p, &e), STORE_SENTINEL_NO);
    host = (redisReply){.type = REDIS_REPLY_STRING, .str = (char *)"a\0b", .len = 3};
    assert_int_equal(store_sentinel_read(&r, &p, &e), STORE_SENTINEL_NO);
    host = text(REDIS_REPLY_STRING, "a");
    both[1] = &number;
    assert_int_equal(store_sentinel_read(&r, &p, &e), STORE_SENTINEL_NO);
    r = (redisReply){.type = REDIS_REPLY_NIL};
    assert_int_equal(store_sentinel_read(&r, &p, &e), STORE_SENTINEL_NO);
    assert_non_null(strstr(e.text, "does not watch"));
    r = text(REDIS_REPLY_ERROR, "NOAUTH Authentication required.");
    assert_int_equal(store_sentinel_read(&r, &p, &e), STORE_SENTINEL_LOGIN);
    r = text(REDIS_REPLY_ERROR, "ERR unknown command 'SENTINEL'");
    assert_int_equal(store_sentinel_read(&r, &p, &e), STORE_SENTINEL_NO);
    assert_non_null(strstr(e.text, "unknown command"));
    r = text(REDIS_REPLY_STATUS, "OK");
    assert_int_equal(store_sentinel_read(&r, &p, &e), STORE_SENTINEL_NO);
    r = number;
    assert_int_equal(store_sentinel_read(&r, &p, &e), STORE_SENTINEL_NO);
}

static void roles(void **state)
{
    (void)state;
    static const struct {
        const char *role;
        bool primary;
    } all[] = {{"master", true}, {"slave", false}, {"sentinel", false}, {"Master", false}, {"", false}};
    struct err e;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        redisReply role = text(REDIS_REPLY_STRING, all[i].role), *one[] = {&role};
        redisReply r = {.type = REDIS_REPLY_ARRAY, .elements = 1, .element = one};
        assert_int_equal(store_role_read(&r, &e), all[i].primary ? 0 : -1);
        role = (redisReply){.type = REDIS_REPLY_INTEGER, .integer = 1};
        assert_int_equal(store_role_read(&r, &e), -1);
        r.elements = 0;
        assert_int_equal(store_role_read(&r, &e), -1);
    }
    redisReply r = text(REDIS_REPLY_ERROR, "NOPERM this user has no permissions to run the 'role' command");
    assert_int_equal(store_role_read(&r, &e), -1);
    assert_non_null(strstr(e.text, "+role"));
    r = text(REDIS_REPLY_ERROR, "LOADING Redis is loading the dataset in memory");
    assert_int_equal(store_role_read(&r, &e), -1);
    assert_non_null(strstr(e.text, "LOADING"));
    r = (redisReply){.type = REDIS_REPLY_NIL};
    assert_int_equal(store_role_read(&r, &e), -1);
}

static void refused_writes(void **state)
{
    (void)state;
    static const char *const yes[] = {
        "READONLY You can't write against a read only replica.",
        "READONLY You can't write against a read only replica. script: 25a, on @user_script:3.",
        "NOREPLICAS Not enough good replicas to write.",
        "ERR Error running script (call to f_5): @user_script:3: @user_script: 3: -READONLY You can't write against "
        "a "
        "read only replica."};
    static const char *const no[] = {"",
                                     "READONLY",
                                     "ERR READONLY x",
                                     "NOAUTH Authentication required.",
                                     "OOM command not allowed",
                                     "ERR the document is damaged: -READONLY x",
                                     "ERR Error running script: the key xREADONLY is damaged",
                                     "readonly You"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_true(store_no_writes(yes[i]));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(store_no_writes(no[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lists),    cmocka_unit_test(rounds),
                                       cmocka_unit_test(watching), cmocka_unit_test(what_sentinels_answer),
                                       cmocka_unit_test(roles),    cmocka_unit_test(refused_writes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
