/* test_alert_syslog.c - syslog entries: their form by RFC 5424 read back by a parser of its own, their limits, their frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "alert/alert_outcome.h"
#include "alert/alert_syslog.h"
#include "common/utf8.h"
#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PB(Alert) some_alert(void)
{
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.id = (char *)"a1";
    a.dedup_key = (char *)"llm/outage";
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL;
    a.source = (char *)"fallback";
    a.agent = (char *)"guardian";
    a.summary = (char *)"LLM away";
    a.raised_unix_ms = 1700000000123;
    return a;
}

/* One parsed entry. */
struct entry {
    int pri;
    char time[64], host[300], app[64], pid[64], kind[64];
    char names[64][40], values[64][600];
    size_t n;
    const char *text; /* behind the mark of UTF-8 */
    size_t text_len, len;
};

static const char *word(const char *p, char *to, size_t size)
{
    size_t n = strcspn(p, " ");
    assert_in_range(n, 1, size - 1);
    for (size_t i = 0; i < n; i++)
        assert_in_range((unsigned char)p[i], 0x21, 0x7e);
    memcpy(to, p, n);
    to[n] = 0;
    assert_int_equal(p[n], ' ');
    return p + n + 1;
}

static const char *element(struct entry *e, const char *p)
{
    static const char id[] = "[redoubt@32473";
    assert_memory_equal(p, id, sizeof id - 1);
    p += sizeof id - 1;
    while (*p == ' ') {
        size_t n = strcspn(++p, "="), v = 0;
        assert_in_range(n, 1, 32);
        assert_true(e->n < 64);
        for (size_t i = 0; i < n; i++)
            assert_true(p[i] > 0x20 && p[i] < 0x7f && !strchr("=]\"", p[i]));
        memcpy(e->names[e->n], p, n);
        e->names[e->n][n] = 0;
        p += n + 1;
        assert_int_equal(*p++, '"');
        for (; *p != '"'; p++) {
            assert_int_not_equal(*p, ']'); /* must be escaped */
            if (*p == '\\')
                p++;
            assert_true(v < sizeof e->values[0] - 1);
            e->values[e->n][v++] = *p;
        }
        e->values[e->n++][v] = 0;
        p++;
    }
    assert_int_equal(*p, ']');
    return p + 1;
}

/* Reads the frame at *at and checks all that holds for every entry. */
static bool next(const char *frames, size_t len, size_t *at, struct entry *e)
{
    if (*at == len)
        return false;
    char *rest;
    memset(e, 0, sizeof *e);
    e->len = strtoul(frames + *at, &rest, 10);
    assert_int_equal(*rest++, ' ');
    assert_in_range(e->len, 30, ALERT_SYSLOG_MAX);
    assert_true((size_t)(rest - frames) + e->len <= len);
    *at = (size_t)(rest - frames) + e->len;
    static char copy[ALERT_SYSLOG_MAX + 1];
    memcpy(copy, rest, e->len);
    copy[e->len] = 0;
    assert_int_equal(strlen(copy), e->len);
    int used = 0;
    assert_int_equal(sscanf(copy, "<%d>1 %n", &e->pri, &used), 1);
    const char *p = copy + used;
    p = word(p, e->time, sizeof e->time);
    p = word(p, e->host, 256);
    p = word(p, e->app, 49);
    p = word(p, e->pid, sizeof e->pid);
    p = word(p, e->kind, 33);
    p = element(e, p);
    assert_memory_equal(p, " \xef\xbb\xbf", 4);
    e->text = p + 4;
    e->text_len = strlen(e->text);
    assert_int_equal(utf8_valid_until(copy, e->len), e->len);
    for (const char *c = copy; *c; c++)
        assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
    return true;
}

static const char *value(const struct entry *e, const char *name)
{
    for (size_t i = 0; i < e->n; i++)
        if (strcmp(e->names[i], name) == 0)
            return e->values[i];
    return NULL;
}

static const struct alert_syslog from = {.facility = 16, .host = "host.example", .pid = 4711};

static struct entry one(const PB(Alert) * a, const char *note)
{
    struct entry e, none;
    size_t len = 0, at = 0;
    struct alert_message m = alert_message_one(&a, note);
    char *frames = alert_syslog_frames(&m, &from, &len);
    assert_non_null(frames);
    assert_true(next(frames, len, &at, &e));
    assert_false(next(frames, len, &at, &none));
    free(frames);
    return e;
}

static void an_entry(void **state)
{
    (void)state;
    PB(Alert) a = some_alert();
    PB(Label) label = REDOUBT__V1__LABEL__INIT, *labels[] = {&label};
    label.key = (char *)"cluster=a b\"]";
    label.value = (char *)"x\"y]z\\ \n\xc3\xa4";
    a.labels = labels;
    a.n_labels = 1;
    a.detail = (char *)"two\nlines";
    struct entry e = one(&a, "was repeated");
    assert_int_equal(e.pri, 16 * 8 + 2);
    assert_string_equal(e.time, "2023-11-14T22:13:20.123Z");
    assert_string_equal(e.host, "host.example");
    assert_string_equal(e.app, "redoubt-alert");
    assert_string_equal(e.pid, "4711");
    assert_string_equal(e.kind, "alert");
    assert_string_equal(value(&e, "id"), "a1");
    assert_string_equal(value(&e, "severity"), "CRITICAL");
    assert_string_equal(value(&e, "resolved"), "false");
    assert_string_equal(value(&e, "dedup_key"), "llm/outage");
    assert_string_equal(value(&e, "agent"), "guardian");
    assert_null(value(&e, "target"));
    assert_string_equal(value(&e, "label.cluster_a_b__"), "x\"y]z\\  \xc3\xa4");
    assert_string_equal(e.text, "[CRITICAL] LLM away: two lines (was repeated)");
    a.resolved = true;
    e = one(&a, NULL);
    assert_int_equal(e.pri, 16 * 8 + 5);
    assert_string_equal(e.kind, "resolved");
    a.raised_unix_ms = 0;
    e = one(&a, NULL);
    assert_string_equal(e.time, "-");
}

static void severities(void **state)
{
    (void)state;
    static const int numbers[] = {5, 6, 4, 3, 2};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(alert_syslog_severity(i, false), numbers[i]);
        assert_int_equal(alert_syslog_severity(i, true), 5);
    }
    assert_int_equal(alert_syslog_severity(99, false), 5);
    assert_int_equal(alert_syslog_severity(-1, false), 5);
}

static void everything_as_long_as_it_can_be(void **state)
{
    (void)state;
    PB(Alert) a = some_alert();
    char summary[513], detail[8192], key[256];
    memset(summary, 's', sizeof summary);
    memset(key, ']', sizeof key); /* doubles when escaped */
    for (size_t i = 0; i + 3 < sizeof detail; i += 3)
        memcpy(detail + i, "\xe2\x98\x82", 3);
    summary[512] = key[255] = detail[sizeof detail - 2] = 0;
    PB(Label) rows[32], *labels[32];
    for (int i = 0; i < 32; i++) {
        rows[i] = (PB(Label))REDOUBT__V1__LABEL__INIT;
        rows[i].key = key;
        rows[i].value = key;
        labels[i] = &rows[i];
    }
    a.labels = labels;
    a.n_labels = 32;
    a.summary = summary;
    a.detail = detail;
    a.dedup_key = key;
    a.manual_intervention_required = true;
    struct entry e = one(&a, summary);
    assert_true(e.len > ALERT_SYSLOG_MAX - 4);
    assert_true(e.text_len > 500); /* it is for people */
    assert_string_equal(value(&e, "manual_intervention_required"), "true");
    /* Not UTF-8, and a host that no receiver would take. */
    a.detail = (char *)"\xff\xfe";
    a.n_labels = 0;
    struct alert_message m = alert_message_one((const PB(Alert) *const[]){&a}, NULL);
    struct alert_syslog odd = {.facility = 23, .host = "a b\n\xc3\xa4", .pid = 1};
    size_t len = 0, at = 0;
    char *frames = alert_syslog_frames(&m, &odd, &len);
    assert_true(next(frames, len, &at, &e));
    assert_string_equal(e.host, "a_b___");
    assert_int_equal(e.pri, 23 * 8 + 2);
    free(frames);
    odd.host = "";
    frames = alert_syslog_frames(&m, &odd, &len);
    at = 0;
    assert_true(next(frames, len, &at, &e));
    assert_string_equal(e.host, "-");
    free(frames);
}

static void many_in_one_message(void **state)
{
    (void)state;
    PB(Alert) rows[3];
    const PB(Alert) * list[3];
    char ids[3][8];
    for (int i = 0; i < 3; i++) {
        rows[i] = some_alert();
        snprintf(ids[i], sizeof ids[i], "b%d", i);
        rows[i].id = ids[i];
        list[i] = &rows[i];
    }
    struct alert_message m = {.kind = ALERT_MESSAGE_DIGEST,
                              .id = "digest-1-99",
                              .alerts = list,
                              .n = 3,
                              .total = 99,
                              .title = "99 alerts waited",
                              .severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH,
                              .from_unix_ms = 1700000000000,
                              .to_unix_ms = 1700000001000};
    size_t len = 0, at = 0;
    char *frames = alert_syslog_frames(&m, &from, &len);
    struct entry e;
    assert_true(next(frames, len, &at, &e));
    assert_string_equal(e.kind, "digest");
    assert_int_equal(e.pri, 16 * 8 + 3);
    assert_string_equal(value(&e, "id"), "digest-1-99");
    assert_string_equal(value(&e, "total"), "99");
    for (int i = 0; i < 3; i++) {
        assert_true(next(frames, len, &at, &e));
        assert_string_equal(value(&e, "id"), ids[i]);
        assert_string_equal(e.kind, "alert");
    }
    assert_false(next(frames, len, &at, &e));
    free(frames);
}

/* What ends of the ways without HTTP or SMTP mean. */
static void outcomes(void **state)
{
    (void)state;
    static const struct {
        enum alert_proto proto;
        enum alert_fault fault;
        int status;
        enum alert_class class;
    } rows[] = {
        {ALERT_PROTO_HAND, ALERT_FAULT_NONE, 0, ALERT_CLASS_ACCEPTED},
        {ALERT_PROTO_HAND, ALERT_FAULT_NONE, 413, ALERT_CLASS_REJECTED},
        {ALERT_PROTO_HAND, ALERT_FAULT_NONE, 503, ALERT_CLASS_AGAIN},
        {ALERT_PROTO_HAND, ALERT_FAULT_CONNECT, 0, ALERT_CLASS_QUICK},
        {ALERT_PROTO_HAND, ALERT_FAULT_TLS, 0, ALERT_CLASS_QUICK},
        {ALERT_PROTO_HAND, ALERT_FAULT_CUT, 0, ALERT_CLASS_AGAIN},
        {ALERT_PROTO_HAND, ALERT_FAULT_TIMEOUT, 0, ALERT_CLASS_AGAIN},
        {ALERT_PROTO_EXEC, ALERT_FAULT_NONE, 0, ALERT_CLASS_ACCEPTED},
        {ALERT_PROTO_EXEC, ALERT_FAULT_NONE, 1, ALERT_CLASS_REJECTED},
        {ALERT_PROTO_EXEC, ALERT_FAULT_NONE, 74, ALERT_CLASS_REJECTED},
        {ALERT_PROTO_EXEC, ALERT_FAULT_NONE, 75, ALERT_CLASS_AGAIN},
        {ALERT_PROTO_EXEC, ALERT_FAULT_NONE, 255, ALERT_CLASS_REJECTED},
        {ALERT_PROTO_EXEC, ALERT_FAULT_TIMEOUT, 0, ALERT_CLASS_AGAIN},
        {ALERT_PROTO_EXEC, ALERT_FAULT_SETTINGS, 0, ALERT_CLASS_REFUSED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(alert_classify(rows[i].proto, &(struct alert_outcome){rows[i].fault, rows[i].status, -1}),
                         rows[i].class);
    /* Every fault means something on every way, and only an answer can accept. */
    for (int p = 0; p < ALERT_PROTOS; p++)
        for (int f = 1; f < ALERT_FAULTS; f++)
            assert_int_not_equal(
                alert_classify((enum alert_proto)p, &(struct alert_outcome){(enum alert_fault)f, 0, -1}),
                ALERT_CLASS_ACCEPTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry),
        cmocka_unit_test(severities),
        cmocka_unit_test(everything_as_long_as_it_can_be),
        cmocka_unit_test(many_in_one_message),
        cmocka_unit_test(outcomes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
