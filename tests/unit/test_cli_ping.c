/* test_cli_ping.c - what `redoubt ping` and `redoubt drill demo` read: who to ask, what came back, where the bus is, whom the story tells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/drill_demo.h"
#include "cli/ping.h"
#include "cli/settings_brief.h"

static int read_text(const char *text, struct ping_answer *a)
{
    return ping_read(text, strlen(text), a);
}

static void answers(void **state)
{
    (void)state;
    struct ping_answer a = {.us = 7};
    assert_int_equal(read_text("{\"type\":\"io.nats.micro.v1.ping_response\",\"name\":\"redoubt-guard\",\"id\":"
                               "\"redoubt-guard-1\",\"version\":\"0.1.0\",\"metadata\":{}}",
                               &a),
                     0);
    assert_string_equal(a.name, "redoubt-guard");
    assert_string_equal(a.id, "redoubt-guard-1");
    assert_string_equal(a.version, "0.1.0");
    /* Others answer, too; and whatever else comes changes nothing. */
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "{}",
        "{\"name\":\"other\",\"id\":\"x\",\"version\":\"1\"}",
        "{\"name\":\"redoubt-guard\",\"version\":\"1\"}",
        "{\"name\":\"redoubt-guard\",\"id\":7,\"version\":\"1\"}",
        "{\"name\":\"redoubt-guard\",\"id\":\"\",\"version\":\"1\"}",
        "{\"name\":\"redoubt-guard\",\"id\":\"a b\",\"version\":\"1\"}",
        "{\"name\":\"redoubt-gu\\u001b[2Jard\",\"id\":\"a\",\"version\":\"1\"}",
        "{\"name\":\"redoubt-guard\",\"id\":\"a\",\"version\":\"1\"",
        "{\"name\":\"redoubt-guard\",\"id\":"
        "\"0123456789012345678901234567890123456789012345678901234567890123456789\","
        "\"version\":\"1\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ping_answer was = a;
        assert_int_equal(read_text(bad[i], &a), -1);
        assert_memory_equal(&was, &a, sizeof a);
    }
}

static void subjects(void **state)
{
    (void)state;
    char s[SUBJECT_MAX_LEN];
    assert_int_equal(ping_subject(NULL, NULL, s), 0);
    assert_string_equal(s, "$SRV.PING");
    assert_int_equal(ping_subject("guard", NULL, s), 0);
    assert_string_equal(s, "$SRV.PING.redoubt-guard");
    assert_int_equal(ping_subject("guard", "redoubt-guard-1", s), 0);
    assert_string_equal(s, "$SRV.PING.redoubt-guard.redoubt-guard-1");
    assert_int_equal(ping_subject("gu*rd", NULL, s), -1);
    assert_int_equal(ping_subject("", NULL, s), -1);
    assert_int_equal(ping_subject("guard", ">", s), -1);
    assert_int_equal(ping_subject(NULL, "redoubt-guard-1", s), -1); /* of which service? */

    assert_int_equal(ping_subject_of("redoubt-guard.redoubt-guard-1\n", s), 0);
    assert_string_equal(s, "$SRV.PING.redoubt-guard.redoubt-guard-1");
    static const char *const bad[] = {"",
                                      "\n",
                                      "redoubt-guard\n",
                                      "redoubt-guard.\n",
                                      ".redoubt-guard-1\n",
                                      "other.redoubt-guard-1\n",
                                      "redoubt-guard.a.b\n",
                                      "redoubt-guard.*\n",
                                      "redoubt-guard.a b\n",
                                      "\nredoubt-guard.redoubt-guard-1\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ping_subject_of(bad[i], s), -1);
    char longest[SUBJECT_MAX_LEN + 32] = "redoubt-guard.";
    memset(longest + strlen(longest), 'a', NAME_MAX_LEN + 1);
    assert_int_equal(ping_subject_of(longest, s), -1);
}

/* ---- settings ---- */

static char file_path[64];

static const char *settings_file(const char *text)
{
    snprintf(file_path, sizeof file_path, "/tmp/test-cli-ping-%d.yaml", (int)getpid());
    FILE *f = fopen(file_path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return file_path;
}

static int remove_file(void **state)
{
    (void)state;
    unlink(file_path);
    return 0;
}

static void brief_is_as_the_whole(void **state)
{
    (void)state;
    setenv("PING_USER", "guard", 1);
    static const char *const texts[] = {
        "nats:\n  url: nats://a:1\n  user: ${PING_USER}\n  password: x\nredis:\n  host: b\n",
        "# first\nredis: {host: b}\nnats: {url: \"nats://a:1\", user: guard,\n\n  password: x}\n# end\n",
        "---\nredis:\n  host: b\nnats:\n  # of this\n  url: nats://a:1\n\n# more\n  user: guard\n  password: "
        "x\ndata_dir: /x\n",
        "\nlog: {level: info}\nnats:\n  url: nats://a:1\r\n  user: guard\r\n  password: x\r\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct conf_report r = {0};
        const char *path = settings_file(texts[i]);
        struct settings *whole = settings_load(path, &r), *brief = settings_brief(path);
        assert_non_null(whole);
        assert_non_null(brief);
        assert_string_equal(brief->nats.url, "nats://a:1");
        assert_string_equal(brief->nats.user, "guard");
        assert_string_equal(brief->nats.password, "x");
        assert_string_equal(whole->nats.url, brief->nats.url);
        assert_string_equal(whole->nats.user, brief->nats.user);
        assert_int_equal(whole->nats.replicas, brief->nats.replicas);
        assert_int_equal(brief->agents.n, 0);
        settings_free(whole);
        settings_free(brief);
        conf_report_free(&r);
    }
}

static void what_is_not_plain_is_read_whole(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "redis: {host: b}\n",
        "{nats: {url: \"nats://a:1\"}}\n",
        " nats:\n   url: nats://a:1\n",
        "nats:\n  url: *u\n",
        "nats:\n  url: none\n",
        "nats:\n  uri: nats://a:1\n",
        "nats: nothing\n",
        "nats:\n  url: ${PING_IS_NOT_SET}\n",
        "nats:\n  password_file: /there/is/none\n",
        "nats:\n  url: [\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_null(settings_brief(settings_file(texts[i])));
    assert_null(settings_brief("/there/is/none"));
}

/* ---- the story's simulators ---- */

static void worlds(void **state)
{
    (void)state;
    struct drill_demo_world w;
    struct err e = {""};
    assert_int_equal(drill_demo_world("backup=b:2,primary=a:1,mail=127.0.0.1:4,backend=sim-backend:3", &w, &e), 0);
    assert_string_equal(w.control[DRILL_DEMO_PRIMARY], "a:1");
    assert_string_equal(w.control[DRILL_DEMO_BACKUP], "b:2");
    assert_string_equal(w.control[DRILL_DEMO_BACKEND], "sim-backend:3");
    assert_string_equal(w.control[DRILL_DEMO_MAIL], "127.0.0.1:4");
    static const char *const bad[] = {"",
                                      "primary=a:1",
                                      "primary=a:1,backup=b:2,backend=c:3",
                                      "primary=a:1,primary=a:1,backup=b:2,backend=c:3,mail=d:4",
                                      "primary=a,backup=b:2,backend=c:3,mail=d:4",
                                      "primary=a:0,backup=b:2,backend=c:3,mail=d:4",
                                      "primary,backup=b:2,backend=c:3,mail=d:4",
                                      "primary=a:1,backup=b:2,backend=c:3,mail=d:4,fax=e:5",
                                      "primary=a:70000,backup=b:2,backend=c:3,mail=d:4"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        *e.text = 0;
        assert_int_equal(drill_demo_world(bad[i], &w, &e), -1);
        assert_non_null(strstr(e.text, "--sims"));
    }
    char longest[2000];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(drill_demo_world(longest, &w, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(subjects),
        cmocka_unit_test_teardown(brief_is_as_the_whole, remove_file),
        cmocka_unit_test_teardown(what_is_not_plain_is_read_whole, remove_file),
        cmocka_unit_test(worlds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
