/* test_common_restic.c - what restic says, and what its failures mean: pure. */
#include "common/restic.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* As restic 0.14 says it, word for word. */
static void failures_are_explained(void **state)
{
    (void)state;
    static const struct {
        const char *repository;
        enum program_end end;
        int code;
        const char *err;
        enum restic_fault fault;
        bool lasting;
        const char *said;
    } rows[] = {
        {"/srv/r", PROGRAM_EXITED, 1, "Fatal: wrong password or no key found", RESTIC_PASSWORD, true,
         "another password than data.password_file has"},
        {"/srv/r", PROGRAM_EXITED, 1,
         "Fatal: unable to open config file: stat /srv/r/config: no such file or directory|Is there a repository at "
         "the following location?|/srv/r",
         RESTIC_NO_REPOSITORY, true, "restic -r /srv/r init"},
        {"s3:https://s3.example/b", PROGRAM_EXITED, 1,
         "Fatal: unable to open config file: Stat: Get \"https://s3.example/b/?location=\": dial tcp: lookup "
         "s3.example: no such host|Is there a repository at the "
         "following location?|s3:https://s3.example/b",
         RESTIC_AWAY, false, "cannot be reached"},
        {"s3:https://s3.example/b", PROGRAM_EXITED, 1,
         "Fatal: unable to open config file: Stat: Access Denied.|Is there a repository at the following location?",
         RESTIC_RIGHTS, true, "the keys in data.env"},
        {"sftp:u@host:/r", PROGRAM_EXITED, 1,
         "subprocess ssh: ssh: connect to host host port 22: Connection timed out|Fatal: unable to open config file",
         RESTIC_AWAY, false, "cannot be reached"},
        {"sftp:u@host:/r", PROGRAM_EXITED, 1,
         "subprocess ssh: u@host: Permission denied (publickey).|Fatal: unable to start the sftp session",
         RESTIC_RIGHTS, true, "refuses"},
        {"/srv/r", PROGRAM_EXITED, 1,
         "unable to create lock in backend: repository is already locked exclusively by PID 7 on host by root (UID "
         "0, GID 0)|lock was created at 2026-11-26 (1s ago)",
         RESTIC_LOCKED, false, "restic -r /srv/r unlock"},
        {"/srv/r", PROGRAM_EXITED, 1, "Fatal: unable to save snapshot: write /srv/r/data/x: no space left on device",
         RESTIC_NO_ROOM, true, "Make room"},
        {"/srv/r", PROGRAM_EXITED, 1,
         "ignoring error for /d/a: ciphertext verification failed|Fatal: There were 2 errors", RESTIC_DAMAGED, true,
         "Keep a copy of it"},
        {"/srv/r", PROGRAM_EXITED, 1,
         "ignoring error for /d/a: StreamPack: open /srv/r/data/3d/3de9: no such file or directory|Fatal: There were "
         "5 "
         "errors",
         RESTIC_DAMAGED, true, "is damaged"},
        {"/srv/r", PROGRAM_EXITED, 1, "pack 3de9: does not exist|Fatal: repository contains errors", RESTIC_DAMAGED,
         true, "is damaged"},
        {"/srv/r", PROGRAM_EXITED, 1, "Fatal: load <index/9933fc3f46>: invalid data returned", RESTIC_DAMAGED, true,
         "is damaged"},
        {"/srv/r", PROGRAM_EXITED, 1, "invalid id \"deadbeef\": no matching ID found for prefix \"deadbeef\"",
         RESTIC_GONE, true, "does not have the snapshot any more"},
        {"/srv/r", PROGRAM_EXITED, 1, "Fatal: something else", RESTIC_OTHER, false,
         "restic on /srv/r: ended with 1: Fatal: something else"},
        {"/srv/r", PROGRAM_TIMEOUT, 9, "", RESTIC_OTHER, false, "had not ended"},
        {"/srv/r", PROGRAM_SIGNALLED, 9, "", RESTIC_OTHER, false, "by signal 9"},
        {"/srv/r", PROGRAM_NOT_STARTED, 0, "", RESTIC_OTHER, true, "Install it"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[600], words[600];
        bool lasting = !rows[i].lasting;
        snprintf(words, sizeof words,
                 rows[i].end == PROGRAM_TIMEOUT       ? "killed, since it had not ended%s"
                 : rows[i].end == PROGRAM_SIGNALLED   ? "ended by signal 9%s"
                 : rows[i].end == PROGRAM_NOT_STARTED ? "/usr/bin/restic is not run%s"
                                                      : "ended with 1: %s",
                 rows[i].err);
        const struct program_result r = {.end = rows[i].end, .code = rows[i].code, .err = rows[i].err, .text = words};
        assert_int_equal(restic_fault_of(rows[i].err), rows[i].fault);
        restic_explain(rows[i].repository, "data", &r, text, sizeof text, &lasting);
        if (!strstr(text, rows[i].said) || lasting != rows[i].lasting)
            fail_msg("row %zu: lasting %d: %s", i, lasting, text);
    }
}

static void repositories_are_shown_without_passwords(void **state)
{
    (void)state;
    static const struct {
        const char *repository, *shown;
        bool local;
    } rows[] = {
        {"/srv/re@po//x", "/srv/re@po//x", true},
        {"relative", "relative", true},
        {"rest:https://u:p@w@host:8000/x@y", "rest:https://***@host:8000/x@y", false},
        {"s3:https://s3.example/b", "s3:https://s3.example/b", false},
        {"sftp:user@host:/srv/r", "sftp:user@host:/srv/r", false},
        {"sftp://user:pw@host//srv/r", "sftp://***@host//srv/r", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char buf[128];
        assert_string_equal(restic_shown(rows[i].repository, buf, sizeof buf), rows[i].shown);
        assert_int_equal(restic_is_local(rows[i].repository), rows[i].local);
    }
    char pattern[64];
    restic_pattern("/a/[b]*?\\c d", pattern, sizeof pattern);
    assert_string_equal(pattern, "/a/\\[b]\\*\\?\\\\c d");
}

struct list {
    struct restic_snapshot s[4];
    size_t n, stop;
};

static bool take(void *ctx, const struct restic_snapshot *s)
{
    struct list *l = ctx;
    l->s[l->n++] = *s;
    return l->n != l->stop;
}

static void snapshots_are_read(void **state)
{
    (void)state;
    static const char text[] =
        "[{\"time\":\"2026-11-26T08:54:40.29292538Z\",\"tree\":\"55\",\"paths\":[\"/d/da ta\"],\"hostname\":\"dep\","
        "\"tags\":[\"redoubt\",\"job=j1\",\"version=0123456789abcdef\",\"files=3\",\"bytes=18446744073709551615\","
        "\"content=c0\",\"meta=m0\",\"stream=REDOUBT_AUDIT\","
        "\"sequence=42\",\"redoubt-keep\",\"source=memory\",\"kind=learning\",\"point=1795683280000\",\"other\",\"="
        "\"],\"original\":\"667801b2cc40\",\"id\":\"1d6aee744877\","
        "\"short_id\":\"1d6aee74\"},"
        "{\"time\":\"2026-11-26T10:54:40+02:00\",\"paths\":[],\"id\":\"2d6aee744877\"},"
        "{\"time\":\"never\",\"id\":\"3d6aee744877\",\"tags\":null}]";
    struct list l = {0};
    json_t *j = json_loads(text, 0, NULL);
    assert_true(restic_snapshots(j, take, &l));
    assert_int_equal(l.n, 3);
    assert_string_equal(l.s[0].id, "1d6aee744877");
    assert_string_equal(l.s[0].original, "667801b2cc40");
    assert_string_equal(l.s[0].job, "j1");
    assert_string_equal(l.s[0].version, "0123456789abcdef");
    assert_string_equal(l.s[0].sum.content, "c0");
    assert_string_equal(l.s[0].sum.meta, "m0");
    assert_int_equal(l.s[0].sum.files, 3);
    assert_true(l.s[0].sum.bytes == UINT64_MAX);
    assert_string_equal(l.s[0].stream, "REDOUBT_AUDIT");
    assert_int_equal(l.s[0].sequence, 42);
    assert_true(l.s[0].kept);
    assert_string_equal(l.s[0].source, "memory");
    assert_string_equal(l.s[0].kind, "learning");
    assert_true(l.s[0].point_ms == 1795683280000);
    assert_int_equal(l.s[0].taken_ms, 1795683280292);
    assert_string_equal(l.s[1].original, "2d6aee744877"); /* never tagged: its own */
    assert_int_equal(l.s[1].taken_ms, 1795683280000);
    assert_false(l.s[1].kept);
    assert_int_equal(l.s[2].taken_ms, 0);
    l = (struct list){.stop = 1};
    assert_true(restic_snapshots(j, take, &l));
    assert_int_equal(l.n, 1);
    json_decref(j);
    static const char *const wrong[] = {"{}", "[{}]", "[[]]", "[{\"id\":5}]", "[{\"id\":\"short\"}]", "null"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        j = json_loads(wrong[i], JSON_DECODE_ANY, NULL);
        assert_false(restic_snapshots(j, take, &(struct list){0}));
        json_decref(j);
    }
    assert_false(restic_snapshots(NULL, take, &l));
}

static void the_snapshot_that_was_made_is_found(void **state)
{
    (void)state;
    static const char counted[] =
        "{\"message_type\":\"summary\",\"total_files_processed\":4,\"snapshot_id\":\"667801b2\"}";
    assert_true(restic_processed(counted, strlen(counted)) == 4);
    static const struct {
        const char *out, *id;
    } rows[] = {
        {"{\"message_type\":\"status\"}\n{\"message_type\":\"summary\",\"snapshot_id\":\"667801b2\"}\n", "667801b2"},
        {"{\"message_type\":\"summary\",\"snapshot_id\":\"667801b2\"}", "667801b2"},
        {"\n\nwords\n{\"message_type\":\"summary\",\"snapshot_id\":\"ab\"}\n\n", "ab"},
        {"{\"message_type\":\"status\",\"snapshot_id\":\"667801b2\"}\n", ""},
        {"{\"message_type\":\"summary\"}\n", ""},
        {"{\"message_type\":\"summary\",\"snapshot_id\":7}\n", ""},
        {"not json", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char id[65] = "x";
        restic_saved(rows[i].out, strlen(rows[i].out), id);
        assert_string_equal(id, rows[i].id);
        assert_true(restic_processed(rows[i].out, strlen(rows[i].out)) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_are_explained),
        cmocka_unit_test(repositories_are_shown_without_passwords),
        cmocka_unit_test(snapshots_are_read),
        cmocka_unit_test(the_snapshot_that_was_made_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
