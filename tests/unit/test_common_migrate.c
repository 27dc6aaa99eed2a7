/* test_common_migrate.c - streams and consumers of other versions and of operators: what is changed, what stays, what is left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "common/bus_migrate.h"
#include "common/subjects.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static const struct bus_stream history = {.name = "H", .subjects = {"a.>", "b"}, .max_bytes = 1000};
static const struct bus_stream kept = {
    .name = "K", .subjects = {"a.>"}, .max_bytes = 1000, .discard_new = true, .work_queue = true};
static const struct bus_stream present = {.name = "P", .subjects = {"a.>"}, .max_per_subject = 1};

/* As the server tells it of a stream that `row` has made. */
static json_t *made_by(const struct bus_stream *row)
{
    json_t *c =
        json_pack("{s:s, s:[], s:s, s:s, s:s, s:i, s:I, s:i, s:I, s:i, s:b, s:b}", "name", row->name, "subjects",
                  "retention", row->work_queue ? "workqueue" : "limits", "discard", row->discard_new ? "new" : "old",
                  "storage", "file", "max_age", 0, "max_bytes", (json_int_t)row->max_bytes, "num_replicas", 1,
                  "duplicate_window", (json_int_t)120000000000, "max_msgs_per_subject",
                  row->max_per_subject ? (int)row->max_per_subject : -1, "allow_direct", 1, "sealed", 0);
    for (const char *const *f = row->subjects; *f; f++)
        json_array_append_new(json_object_get(c, "subjects"), json_string(*f));
    return c;
}

static json_t *parsed(const char *text)
{
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(v);
    return v;
}

/* The stream with `key` as it is given is migrated; the changes are `expect`, as JSON of an object: "{}" = none. */
static void stream_becomes(const struct bus_stream *row, int replicas, int format, const char *with,
                           const char *expect)
{
    json_t *is = made_by(row), *given = parsed(with), *want_changes = parsed(expect);
    json_object_update(is, given);
    json_t *got = bus_migrate_stream(row, replicas, format, is);
    json_t *wanted = json_deep_copy(is);
    json_object_update(wanted, want_changes);
    if (json_object_size(want_changes) == 0 ? got != NULL : !json_equal(got, wanted)) {
        char *g = got ? json_dumps(got, JSON_COMPACT) : NULL, *w = json_dumps(wanted, JSON_COMPACT);
        fail_msg("%s with %s becomes\n%s, wanted\n%s", row->name, with, g ? g : "(nothing)", w);
    }
    /* Once is enough: what it has become is left as it is. */
    if (got) {
        json_t *again = bus_migrate_stream(row, replicas, format, got);
        assert_null(again);
    }
    json_decref(got);
    json_decref(wanted);
    json_decref(is);
    json_decref(given);
    json_decref(want_changes);
}

static void our_own_is_left_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < bus_streams_n; i++)
        stream_becomes(&bus_streams[i], 1, BUS_FORMAT, "{}", "{}");
}

static void what_is_an_operator_s_stays(void **state)
{
    (void)state;
    static const char *const own[] = {
        "{\"max_bytes\": 5}",
        "{\"max_bytes\": -1}",
        "{\"max_age\": 3600000000000}",
        "{\"max_msgs\": 7}",
        "{\"num_replicas\": 5}",
        "{\"description\": \"ours, ask Ann\"}",
        "{\"placement\": {\"tags\": [\"ssd\"]}, \"republish\": {\"src\": \">\", \"dest\": \"x.>\"}}",
        "{\"metadata\": {\"team\": \"sec\"}, \"compression\": \"s2\"}",
        "{\"subjects\": [\"a.>\", \"b\", \"mine.>\"]}",
        "{\"subjects\": [\"b\", \"a.>\"]}",
        "{\"subjects\": [\">\"]}", /* wider than ours */
        "{\"subjects\": [\"*.>\", \"*\"]}",
        "{\"discard\": \"new\"}", /* stricter than ours */
        "{\"duplicate_window\": 600000000000}",
        "{\"deny_delete\": true, \"deny_purge\": true}",
        "{\"storage\": \"memory\"}", /* cannot be changed */
        "{\"retention\": \"interest\"}",
        "{\"something_new\": {\"of\": [\"a\", \"newer\", \"server\"]}}",
    };
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        stream_becomes(&history, 1, 1, own[i], "{}");
    stream_becomes(&present, 1, 1, "{\"max_msgs_per_subject\": 10}", "{}");
    stream_becomes(&present, 1, 1, "{\"max_msgs_per_subject\": -1}", "{}");
}

static void what_a_version_needs_comes(void **state)
{
    (void)state;
    /* Subjects grow, and narrower ones give way to the wider: the server refuses overlaps. */
    stream_becomes(&history, 1, 1, "{\"subjects\": [\"b\"]}", "{\"subjects\": [\"b\", \"a.>\"]}");
    stream_becomes(&history, 1, 1, "{\"subjects\": []}", "{\"subjects\": [\"a.>\", \"b\"]}");
    stream_becomes(&history, 1, 1, "{\"subjects\": [\"a.x\", \"m\", \"a.*\", \"a.x.>\", \"b\"]}",
                   "{\"subjects\": [\"m\", \"b\", \"a.>\"]}");
    stream_becomes(&history, 1, 1, "{\"subjects\": [\"*.x\"]}", "{\"subjects\": [\"*.x\", \"a.>\", \"b\"]}");
    stream_becomes(&history, 1, 1, "{\"subjects\": null}", "{\"subjects\": [\"a.>\", \"b\"]}");
    stream_becomes(&history, 3, 1, "{\"num_replicas\": 1}", "{\"num_replicas\": 3}");
    stream_becomes(&history, 1, 1, "{\"allow_direct\": false}", "{\"allow_direct\": true}");
    stream_becomes(&history, 1, 1, "{\"no_ack\": true}", "{\"no_ack\": false}");
    stream_becomes(&kept, 1, 1, "{\"discard\": \"old\"}", "{\"discard\": \"new\"}");
    stream_becomes(&kept, 1, 1, "{\"max_msgs_per_subject\": 1}", "{\"max_msgs_per_subject\": -1}");
    stream_becomes(&history, 1, 1, "{\"duplicate_window\": 1000}", "{\"duplicate_window\": 120000000000}");
    stream_becomes(&history, 1, 1, "{\"duplicate_window\": 1000, \"max_age\": 5000000000}",
                   "{\"duplicate_window\": 5000000000}");
    stream_becomes(&history, 1, 1, "{\"duplicate_window\": 5000000000, \"max_age\": 5000000000}", "{}");
}

static void the_format_is_marked(void **state)
{
    (void)state;
    stream_becomes(&history, 1, 2, "{}", "{\"description\": \"redoubt format 2\"}");
    stream_becomes(&history, 1, 2, "{\"description\": \"redoubt format 1\"}",
                   "{\"description\": \"redoubt format 2\"}");
    stream_becomes(&history, 1, 2, "{\"description\": \"ours\"}", "{\"description\": \"redoubt format 2; ours\"}");
    stream_becomes(&history, 1, 12, "{\"description\": \"x redoubt format 11; ours\"}",
                   "{\"description\": \"x redoubt format 12; ours\"}");
    stream_becomes(&history, 1, 2, "{\"description\": \"redoubt format 2; ours\"}", "{}");

    static const struct {
        const char *with;
        int format;
        bool usable;
    } rows[] = {
        {"{}", 1, true},
        {"{\"description\": \"\"}", 1, true},
        {"{\"description\": \"redoubt format 1\"}", 2, true},
        {"{\"description\": \"redoubt format 2\"}", 2, true},
        {"{\"description\": \"redoubt format 3\"}", 2, false},
        {"{\"description\": \"redoubt format 2; ours\"}", 1, false},
        {"{\"description\": \"redoubt format 99999999999999999999\"}", 1, false},
        {"{\"description\": \"redoubt format nonsense\"}", 1, true},
        {"{\"description\": \"redoubt format -4\"}", 1, true},
        {"{\"description\": 7}", 1, true},
        {"{\"mirror\": {\"name\": \"OTHER\"}}", 1, false},
        {"{\"mirror\": null}", 1, true},
        {"{\"sealed\": true}", 1, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *is = made_by(&history), *given = parsed(rows[i].with);
        struct err e = {""};
        json_object_update(is, given);
        int rc = bus_migrate_usable(is, rows[i].format, &e);
        if ((rc == 0) != rows[i].usable || (rc != 0) != (e.text[0] != 0))
            fail_msg("%s for format %d: %d %s", rows[i].with, rows[i].format, rc, e.text);
        json_decref(is);
        json_decref(given);
    }
    json_t *long_text = json_object();
    char text[6000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    json_object_set_new(long_text, "description", json_string(text));
    bus_migrate_mark(long_text, 2);
    assert_true(json_string_length(json_object_get(long_text, "description")) < 4096);
    json_decref(long_text);
}

static void what_cannot_be_changed_is_said(void **state)
{
    (void)state;
    static const struct {
        const struct bus_stream *row;
        const char *with;
        bool odd;
    } rows[] = {
        {&history, "{}", false},
        {&kept, "{}", false},
        {&history, "{\"storage\": \"memory\"}", true},
        {&history, "{\"retention\": \"interest\"}", true},
        {&history, "{\"retention\": \"workqueue\"}", true},
        {&kept, "{\"retention\": \"limits\"}", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *is = made_by(rows[i].row), *given = parsed(rows[i].with);
        json_object_update(is, given);
        if ((bus_migrate_odd(rows[i].row, is) != NULL) != rows[i].odd)
            fail_msg("%s", rows[i].with);
        json_decref(is);
        json_decref(given);
    }
}

static const struct bus_migrate_wish wish = {
    .deliver = "_INBOX_x.deliver.S.d", .group = "d", .filter = "a.>", .ack_wait_ms = 5000, .max_ack_pending = 1000};

static void consumer_becomes(const char *with, const char *without, const char *expect)
{
    json_t *is = bus_migrate_new_consumer(&wish, "d"), *given = parsed(with), *changes = parsed(expect);
    json_object_update(is, given);
    json_t *got = bus_migrate_consumer(&wish, is), *wanted = json_deep_copy(is);
    json_object_update(wanted, changes);
    if (without)
        json_object_del(wanted, without);
    bool none = json_equal(wanted, is);
    if (none ? got != NULL : !json_equal(got, wanted)) {
        char *g = got ? json_dumps(got, JSON_COMPACT) : NULL;
        fail_msg("a consumer with %s becomes %s", with, g ? g : "(nothing)");
    }
    json_decref(got);
    json_decref(wanted);
    json_decref(is);
    json_decref(given);
    json_decref(changes);
}

static void consumers(void **state)
{
    (void)state;
    consumer_becomes("{}", NULL, "{}");
    /* Where it began, what an operator looks at, and more room than we ask for: theirs. */
    consumer_becomes("{\"deliver_policy\": \"by_start_sequence\", \"opt_start_seq\": 7}", NULL, "{}");
    consumer_becomes("{\"sample_freq\": \"100\", \"description\": \"x\", \"num_replicas\": 1}", NULL, "{}");
    consumer_becomes("{\"ack_wait\": 9000000000, \"max_ack_pending\": 5000}", NULL, "{}");
    consumer_becomes("{\"max_ack_pending\": -1}", NULL, "{}");
    consumer_becomes("{\"metadata\": {\"a\": \"b\"}}", NULL, "{}");
    /* What is needed. */
    consumer_becomes("{\"ack_wait\": 1000000000}", NULL, "{\"ack_wait\": 5000000000}");
    consumer_becomes("{\"max_ack_pending\": 10}", NULL, "{\"max_ack_pending\": 1000}");
    consumer_becomes("{\"filter_subject\": \"a.b\"}", NULL, "{\"filter_subject\": \"a.>\"}");
    consumer_becomes("{\"filter_subject\": \"\", \"filter_subjects\": [\"a\", \"b\"]}", "filter_subjects",
                     "{\"filter_subject\": \"a.>\"}");
    consumer_becomes("{\"deliver_subject\": \"elsewhere\"}", NULL, "{\"deliver_subject\": \"_INBOX_x.deliver.S.d\"}");
    consumer_becomes("{\"deliver_group\": \"other\"}", NULL, "{\"deliver_group\": \"d\"}");
    /* What would lose messages. */
    consumer_becomes("{\"max_deliver\": 5}", NULL, "{\"max_deliver\": -1}");
    consumer_becomes("{\"headers_only\": true}", NULL, "{\"headers_only\": false}");
    consumer_becomes("{\"inactive_threshold\": 5000000000}", "inactive_threshold", "{}");
    consumer_becomes("{\"backoff\": [1000000000]}", "backoff", "{}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(our_own_is_left_alone),          cmocka_unit_test(what_is_an_operator_s_stays),
        cmocka_unit_test(what_a_version_needs_comes),     cmocka_unit_test(the_format_is_marked),
        cmocka_unit_test(what_cannot_be_changed_is_said), cmocka_unit_test(consumers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
