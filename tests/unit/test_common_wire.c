/* test_common_wire.c - what the contract allows goes through both ways, and everything else is refused with its place. */
#include "common/subjects.h"
#include "common/wire.h"
#include "common/wire_report.h"
#include "common/wire_rules.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- raw bytes by hand ---- */

struct raw {
    unsigned char b[1 << 17];
    size_t n;
};
static struct raw raw;

static void varint(uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        raw.b[raw.n++] = (unsigned char)(v | 0x80);
    raw.b[raw.n++] = (unsigned char)v;
}

static void number(uint32_t field, uint64_t v)
{
    varint((uint64_t)field << 3);
    varint(v);
}

static void bytes(uint32_t field, const void *data, size_t n)
{
    varint((uint64_t)field << 3 | 2);
    varint(n);
    memcpy(raw.b + raw.n, data, n);
    raw.n += n;
}

static void text(uint32_t field, const char *s)
{
    bytes(field, s, strlen(s));
}

/* A whole OutcomeReport. */
static void report(void)
{
    raw.n = 0;
    text(1, "llm.openai.gpt-4o");
    text(2, "agent-1");
    number(3, 2);
}

static void refused(const ProtobufCMessageDescriptor *desc, const char *why)
{
    struct err e = {""};
    void *m = wire_unpack(desc, raw.b, raw.n, &e);
    if (m)
        print_message("accepted, but: %s\n", why);
    assert_null(m);
    if (!strstr(e.text, why))
        print_message("said: %s\nbut expected: %s\n", e.text, why);
    assert_non_null(strstr(e.text, why));
}

static void accepted(const ProtobufCMessageDescriptor *desc)
{
    struct err e = {""};
    void *m = wire_unpack(desc, raw.b, raw.n, &e);
    if (!m)
        print_message("refused: %s\n", e.text);
    assert_non_null(m);
    size_t len;
    void *again = wire_pack(m, &len, &e);
    assert_non_null(again);
    free(again);
    wire_free(m);
}

static void whole_messages_pass(void **state)
{
    (void)state;
    report();
    accepted(PB_DESC(outcome_report));
    number(4, 503);
    number(10, 1);
    accepted(PB_DESC(outcome_report));
    wire_free(NULL);
}

static void raw_bytes_are_checked(void **state)
{
    (void)state;
    raw.n = 0;
    refused(PB_DESC(outcome_report), "is empty");
    report();
    size_t whole = raw.n;
    for (size_t cut = 1; cut < whole; cut++) {
        raw.n = cut;
        struct err e;
        assert_null(wire_unpack(PB_DESC(outcome_report), raw.b, raw.n, &e));
    }
    report();
    bytes(1000, "\0\xff", 2); /* a newer sender's field may hold anything */
    number(1001, 5);
    accepted(PB_DESC(outcome_report));

    raw.n = 0;
    bytes(1, "llm\0x", 5);
    text(2, "a");
    number(3, 1);
    refused(PB_DESC(outcome_report), "target: holds NUL");
    report();
    bytes(2, "agent-1\0", 8); /* overwritten or overwriting: both are refused */
    refused(PB_DESC(outcome_report), "reporter: given twice");
    raw.n = 0;
    bytes(2, "agent-1\0", 8);
    refused(PB_DESC(outcome_report), "reporter: holds NUL");
    report();
    number(3, 1);
    refused(PB_DESC(outcome_report), "outcome: given twice");
    report();
    bytes(4, "abc", 3); /* a number's field as bytes */
    refused(PB_DESC(outcome_report), "status_code: malformed");
    report();
    varint(4 << 3 | 3); /* a group */
    refused(PB_DESC(outcome_report), "wire type 3");
    report();
    varint(0); /* field 0 */
    varint(0);
    refused(PB_DESC(outcome_report), "bad field tag");
    report();
    varint(UINT64_C(1) << 40);
    refused(PB_DESC(outcome_report), "bad field tag");
    report();
    varint(5 << 3);
    memset(raw.b + raw.n, 0xff, 11);
    raw.n += 11;
    refused(PB_DESC(outcome_report), "bad number");
    report();
    varint(1000u << 3 | 2);
    varint(UINT64_MAX);
    refused(PB_DESC(outcome_report), "cut off");
    report();
    while (raw.n <= MESSAGE_MAX)
        number(1000, 1);
    refused(PB_DESC(outcome_report), "at most 65536");
    report();
    while (raw.n + 2 <= MESSAGE_MAX)
        number(15, 1); /* 32,000 unknown fields would take 24 bytes of memory each */
    refused(PB_DESC(outcome_report), "bytes of memory");
}

static void nul_is_found_at_every_depth(void **state)
{
    (void)state;
    struct raw inner;
    raw.n = 0;
    text(1, "key");
    bytes(2, "a\0b", 3);
    inner = raw;
    raw.n = 0;
    text(1, "id");
    text(2, "dedup");
    number(3, 3);
    text(8, "summary");
    bytes(12, inner.b, inner.n);
    refused(PB_DESC(alert), "Label.value: holds NUL");
    raw.n = 0;
    text(1, "id");
    text(2, "dedup");
    number(3, 3);
    text(8, "summary");
    text(10, "done");
    bytes(10, "do\0ne", 5);
    refused(PB_DESC(alert), "actions_taken: holds NUL");
}

static void fields_follow_their_rules(void **state)
{
    (void)state;
    static char long_text[9000];
    memset(long_text, 'a', sizeof long_text - 1);
    raw.n = 0;
    text(1, "LLM.Upper");
    text(2, "a");
    number(3, 1);
    refused(PB_DESC(outcome_report), "OutcomeReport.target: found `LLM.Upper`");
    raw.n = 0;
    text(2, "a");
    number(3, 1);
    refused(PB_DESC(outcome_report), "OutcomeReport.target: is empty; required");
    raw.n = 0;
    text(1, "llm.x");
    text(2, "a.b");
    number(3, 1);
    refused(PB_DESC(outcome_report), "reporter: found `a.b`");
    raw.n = 0;
    text(1, "llm.x");
    text(2, "a");
    refused(PB_DESC(outcome_report), "outcome: is not set");
    report();
    raw.b[raw.n - 1] = 99;
    refused(PB_DESC(outcome_report), "outcome: found 99");
    raw.n -= 2;
    number(3, (uint64_t)-1);
    refused(PB_DESC(outcome_report), "outcome: found -1");
    report();
    number(4, 1000);
    refused(PB_DESC(outcome_report), "status_code: found 1000; allowed: 0 to 999");
    report();
    number(8, (uint64_t)-5);
    refused(PB_DESC(outcome_report), "ended_unix_ms: found -5");
    report();
    number(8, UINT64_C(253402300800000));
    refused(PB_DESC(outcome_report), "ended_unix_ms");
    report();
    number(9, UINT64_MAX);
    refused(PB_DESC(outcome_report), "permit_id: found 18446744073709551615");

    raw.n = 0;
    text(1, "agent");
    text(2, "i");
    number(7, 99);
    refused(PB_DESC(heartbeat), "interval_ms: found 99; allowed: 100 to 600000");
    raw.n = 0;
    text(1, "agent");
    bytes(2, "\xc3\x28", 2);
    number(7, 1000);
    refused(PB_DESC(heartbeat), "instance: byte 0 is not UTF-8");
    raw.n = 0;
    text(1, "agent");
    bytes(2, long_text, 129);
    number(7, 1000);
    refused(PB_DESC(heartbeat), "instance: more than 128 bytes");

    raw.n = 0;
    text(1, "an id with spaces");
    text(2, "k");
    number(3, 1);
    text(8, "s");
    refused(PB_DESC(alert), "Alert.id: found `an id with spaces`");
    raw.n = 0;
    text(1, "id");
    text(2, "k");
    number(3, 1);
    text(8, "s");
    bytes(9, long_text, 8192);
    accepted(PB_DESC(alert));
    for (int i = 0; i < 33; i++)
        text(10, "x");
    refused(PB_DESC(alert), "actions_taken: found 33 items; allowed: 0 to 32");
    raw.n = 0;
    text(2, "k");
    text(1, "id");
    number(3, 1);
    text(8, "s");
    bytes(9, long_text, 8193);
    refused(PB_DESC(alert), "detail: more than 8192 bytes");
    raw.n = 0;
    text(1, "id");
    text(2, "k");
    number(3, 1);
    text(8, "s");
    bytes(12, "\x0a\x01k\x12\x01v", 6);
    bytes(12, "\x0a\x01k\x12\x01w", 6);
    refused(PB_DESC(alert), "labels: key `k` occurs twice");
    raw.n = 0;
    number(2, 1);
    refused(PB_DESC(directive), "Directive.state: is missing");
    raw.n = 0;
    text(1, "llm.x");
    number(2, 1);
    number(3, 1);
    number(10, 101);
    refused(PB_DESC(breaker_changed), "ramp_percent: found 101; allowed: 0 to 100");
    raw.n = 0;
    text(1, "llm.x");
    number(3, 1);
    refused(PB_DESC(breaker_changed), "epoch: found 0; allowed: 1 to");
}

static void places_are_named_in_lists(void **state)
{
    (void)state;
    struct raw good, bad;
    report();
    good = raw;
    number(4, 1000);
    bad = raw;
    raw.n = 0;
    bytes(1, good.b, good.n);
    bytes(1, good.b, good.n);
    accepted(PB_DESC(outcome_batch));
    bytes(1, bad.b, bad.n);
    refused(PB_DESC(outcome_batch), "OutcomeBatch.reports[2].status_code: found 1000");
    raw.n = 0;
    bytes(2, "x", 1);
    refused(PB_DESC(outcome_batch), "reports: found 0 items; allowed: 1 to 1000");
    raw.n = 0;
    for (int i = 0; i < 1000; i++)
        bytes(1, good.b, good.n);
    accepted(PB_DESC(outcome_batch)); /* the budget has room for the largest batch */
    bytes(1, good.b, good.n);
    refused(PB_DESC(outcome_batch), "found 1001 items");
}

static void senders_bugs_are_refused(void **state)
{
    (void)state;
    struct err e;
    size_t len;
    PB(BreakerChanged) m = PB_INIT(BREAKER_CHANGED);
    PB(BreakerPermit) permit = PB_INIT(BREAKER_PERMIT);
    assert_null(wire_pack(&m, &len, &e));
    assert_string_equal(e.text, "BreakerChanged.target: is empty; required, up to 128 bytes");
    m.target = (char *)"llm.x";
    m.epoch = 3;
    m.state = (Redoubt__V1__BreakerState)17;
    assert_null(wire_pack(&m, &len, &e));
    m.state = REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_OPEN;
    m.detail = NULL; /* as good as empty */
    m.permit = &permit;
    permit.holder = (char *)"not a token";
    assert_int_equal(wire_check(&m, &e), -1);
    assert_non_null(strstr(e.text, "BreakerChanged.permit.holder: found `not a token`"));
    permit.holder = (char *)"agent-1";
    assert_int_equal(wire_check(&m, &e), 0);
    void *data = wire_pack(&m, &len, &e);
    assert_non_null(data);
    PB(BreakerChanged) *back = wire_unpack(PB_DESC(breaker_changed), data, len, &e);
    assert_non_null(back);
    assert_string_equal(back->target, "llm.x");
    assert_string_equal(back->permit->holder, "agent-1");
    assert_int_equal(back->epoch, 3);
    wire_free(back);
    free(data);
    m.permit = (PB(BreakerPermit) *)&(PB(BreakerTotals))PB_INIT(BREAKER_TOTALS);
    assert_int_equal(wire_check(&m, &e), -1);
    assert_non_null(strstr(e.text, "another type"));

    PB(OutcomeBatch) batch = PB_INIT(OUTCOME_BATCH);
    PB(OutcomeReport) * items[2] = {NULL, NULL};
    batch.n_reports = 2;
    assert_int_equal(wire_check(&batch, &e), -1);
    assert_non_null(strstr(e.text, "has a count but no items"));
    batch.reports = items;
    assert_int_equal(wire_check(&batch, &e), -1);
    assert_non_null(strstr(e.text, "reports[0]: is missing"));

    PB(CommandReply) reply = PB_INIT(COMMAND_REPLY);
    static uint8_t payload[MESSAGE_MAX];
    reply.status = REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK;
    reply.payload.len = 5;
    assert_int_equal(wire_check(&reply, &e), -1);
    reply.payload.data = payload;
    reply.payload.len = sizeof payload;
    assert_int_equal(wire_check(&reply, &e), 0);
    assert_null(wire_pack(&reply, &len, &e)); /* allowed by itself, but not in a message of 65,536 bytes */
    assert_non_null(strstr(e.text, "packs to"));
    PB(AllowReply) nothing = PB_INIT(ALLOW_REPLY);
    assert_null(wire_pack(&nothing, &len, &e)); /* would be an empty buffer, which receivers refuse */
}

static void a_newer_senders_fields_survive(void **state)
{
    (void)state;
    struct err e;
    report();
    text(999, "later");
    PB(OutcomeReport) *m = wire_unpack(PB_DESC(outcome_report), raw.b, raw.n, &e);
    assert_non_null(m);
    assert_int_equal(m->base.n_unknown_fields, 1);
    size_t len;
    void *data = wire_pack(m, &len, &e);
    assert_non_null(data);
    assert_int_equal(len, raw.n);
    free(data);
    wire_free(m);
}

static void every_rule_names_a_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < wire_rules_n; i++) {
        const struct wire_rules *r = &wire_rules[i];
        uint32_t last = 0;
        for (size_t k = 0; k < r->n; k++) {
            const struct wire_rule *row = &r->rows[k];
            const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(r->desc, row->tag);
            if (!f || strcmp(f->name, row->field) != 0)
                print_message("%s %u %s\n", r->desc->short_name, row->tag, row->field);
            assert_non_null(f);
            assert_string_equal(f->name, row->field);
            assert_true(row->tag > last);
            last = row->tag;
            bool string = row->kind <= WIRE_KEY;
            assert_int_equal(string, f->type == PROTOBUF_C_TYPE_STRING);
            assert_int_equal(row->kind == WIRE_BYTES, f->type == PROTOBUF_C_TYPE_BYTES);
            assert_int_equal(row->kind == WIRE_SET, f->type == PROTOBUF_C_TYPE_ENUM);
            assert_int_equal(row->kind == WIRE_PRESENT || row->kind == WIRE_MESSAGE,
                             f->type == PROTOBUF_C_TYPE_MESSAGE);
            assert_int_equal(row->count_max > 0, f->label == PROTOBUF_C_LABEL_REPEATED);
            assert_true(row->min <= row->max || row->kind >= WIRE_SET);
        }
        /* Every enumeration has UNSPECIFIED = 0: wire_enum_name() stands on it. Every sub-message's type has rules. */
        for (unsigned k = 0; k < r->desc->n_fields; k++) {
            const ProtobufCFieldDescriptor *f = &r->desc->fields[k];
            if (f->type == PROTOBUF_C_TYPE_ENUM)
                assert_string_equal(wire_enum_name(f->descriptor, 0), "UNSPECIFIED");
            if (f->type == PROTOBUF_C_TYPE_MESSAGE)
                assert_non_null(wire_by_name(((const ProtobufCMessageDescriptor *)f->descriptor)->name));
        }
        assert_true(r->desc->n_fields <= 64); /* scan() watches that many for repetition */
        assert_ptr_equal(wire_by_name(r->desc->name), r->desc);
    }
    assert_null(wire_by_name("redoubt.v1.Nothing"));
}

static void subjects_carry_their_messages(void **state)
{
    (void)state;
    static const struct {
        const char *subject;
        const ProtobufCMessageDescriptor *desc;
    } rows[] = {
        {"redoubt.v1.report.llm.x", PB_DESC(outcome_report)},
        {"redoubt.v1.heartbeat.a", PB_DESC(heartbeat)},
        {"redoubt.v1.health.llm.x", PB_DESC(health_changed)},
        {"redoubt.v1.breaker.llm.x", PB_DESC(breaker_changed)},
        {"redoubt.v1.directive.a", PB_DESC(directive)},
        {"redoubt.v1.ack.a", PB_DESC(directive_ack)},
        {"redoubt.v1.action.a", PB_DESC(action_request)},
        {"redoubt.v1.alert", PB_DESC(alert)},
        {"redoubt.v1.delivery.x-1", PB_DESC(delivery_receipt)},
        {"redoubt.v1.rollback.d", PB_DESC(rollback_changed)},
        {"redoubt.v1.incident.i", PB_DESC(incident_changed)},
        {"redoubt.v1.audit.breaker", PB_DESC(audit_record)},
        {"redoubt.v1.dead.REDOUBT_ALERTS", PB_DESC(dead_letter)},
        {"redoubt.v1.cmd.breaker.allow", PB_DESC(allow_request)},
        {"redoubt.v1.cmd.breaker.open", PB_DESC(breaker_command)},
        {"redoubt.v1.cmd.fallback.freeze", PB_DESC(agent_command)},
        {"redoubt.v1.cmd.other.x", NULL},
        {"redoubt.v1.alertx", NULL},
        {"redoubt.v1.report.", NULL},
        {"elsewhere", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_ptr_equal(wire_by_subject(rows[i].subject), rows[i].desc);
    PB(BreakerChanged) m = PB_INIT(BREAKER_CHANGED);
    assert_string_equal(wire_type(&m), "redoubt.v1.BreakerChanged");
    assert_string_equal(wire_enum_name(&redoubt__v1__breaker_state__descriptor, 4), "PROBATION");
    assert_string_equal(wire_enum_name(&redoubt__v1__breaker_state__descriptor, 99), "?");
}

static void messages_become_json(void **state)
{
    (void)state;
    PB(BreakerChanged) m = PB_INIT(BREAKER_CHANGED);
    PB(BreakerTotals) totals = PB_INIT(BREAKER_TOTALS);
    m.target = (char *)"llm.x";
    m.epoch = UINT64_C(9007199254740993);
    m.state = REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_HALF_OPEN;
    m.detail = (char *)"a \"line\"";
    m.totals = &totals;
    totals.calls = 12;
    char *text_of = wire_json(&m);
    json_t *j = json_loads(text_of, 0, NULL);
    assert_non_null(j);
    assert_memory_equal(
        text_of,
        "{\"target\":\"llm.x\",\"epoch\":9007199254740993,\"state\":\"HALF_OPEN\",\"previous\":\"UNSPECIFIED\"", 60);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "totals"), "calls")), 12);
    assert_true(json_is_null(json_object_get(j, "permit")));
    assert_int_equal(json_integer_value(json_object_get(j, "rampPercent")), 0);
    assert_string_equal(json_string_value(json_object_get(j, "detail")), "a \"line\"");
    assert_null(strchr(text_of, '\n'));
    json_decref(j);
    free(text_of);

    PB(CommandReply) reply = PB_INIT(COMMAND_REPLY);
    reply.payload = (ProtobufCBinaryData){3, (uint8_t *)"\x01\xff\x00"};
    reply.epoch = UINT64_MAX;
    text_of = wire_json(&reply);
    assert_string_equal(
        text_of,
        "{\"status\":\"UNSPECIFIED\",\"message\":\"\",\"epoch\":\"18446744073709551615\",\"payload\":\"Af8A\"}");
    free(text_of);
    reply.message = (char *)"\xff";
    assert_null(wire_json(&reply));

    PB(Alert) alert = PB_INIT(ALERT);
    PB(Label) label = PB_INIT(LABEL), *labels[] = {&label};
    char *actions[] = {(char *)"override_activated", (char *)"increased_monitoring"};
    label.key = (char *)"k";
    label.value = (char *)"v";
    alert.n_labels = 1;
    alert.labels = labels;
    alert.n_actions_taken = 2;
    alert.actions_taken = actions;
    text_of = wire_json(&alert);
    assert_non_null(strstr(text_of, "\"actionsTaken\":[\"override_activated\",\"increased_monitoring\"]"));
    assert_non_null(strstr(text_of, "\"labels\":[{\"key\":\"k\",\"value\":\"v\"}]"));
    assert_non_null(strstr(text_of, "\"manualInterventionRequired\":false"));
    free(text_of);
}

/* What the quick reader of reports makes of the bytes at hand. */
static size_t quick(bool batch, struct wire_reports *ret)
{
    return wire_reports_read(raw.b, raw.n, batch, "llm.openai.gpt-4o", strlen("llm.openai.gpt-4o"), ret);
}

static void reports_are_read_quickly(void **state)
{
    (void)state;
    struct wire_reports r;
    report();
    number(4, 503);
    number(5, UINT32_MAX);
    number(7, 1000);
    number(8, 1790000000000);
    number(9, (UINT64_C(1) << 53) - 1);
    number(11, 1);
    assert_int_equal(quick(false, &r), 1);
    assert_int_equal(r.reporter_len, strlen("agent-1"));
    assert_memory_equal(r.reporter, "agent-1", r.reporter_len);
    assert_int_equal(r.at[0].outcome, 2);
    assert_int_equal(r.at[0].status_code, 503);
    assert_int_equal(r.at[0].total_ms, UINT32_MAX);
    assert_int_equal(r.at[0].first_token_ms, 0);
    assert_int_equal(r.at[0].retry_after_ms, 1000);
    assert_int_equal(r.at[0].ended_unix_ms, 1790000000000);
    assert_int_equal(r.at[0].permit_id, (UINT64_C(1) << 53) - 1);
    assert_false(r.at[0].probe);
    assert_true(r.at[0].data_path);
    size_t whole = raw.n;
    for (raw.n = 0; raw.n < 30; raw.n++) /* not all that is needed is there, or a field is cut off */
        assert_int_equal(quick(false, &r), 0);
    raw.n = whole;
    number(3, 1); /* twice */
    assert_int_equal(quick(false, &r), 0);
    static const struct {
        uint32_t field;
        uint64_t value;
    } wrong[] = {{4, 1000},
                 {6, UINT64_C(1) << 32},
                 {8, UINT64_MAX},
                 {8, 253402300800000},
                 {9, UINT64_C(1) << 53},
                 {10, 2},
                 {12, 1},
                 {17, 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        report();
        number(wrong[i].field, wrong[i].value);
        assert_int_equal(quick(false, &r), 0);
    }
    report();
    assert_int_equal(wire_reports_read(raw.b, raw.n, false, "llm.openai.gpt-4", strlen("llm.openai.gpt-4"), &r), 0);
}

/* As many as the contract allows, of one reporter. */
static void batches_are_read_quickly(void **state)
{
    (void)state;
    static const unsigned char one[] = "\x0a\x11llm.openai.gpt-4o\x12\x07"
                                       "agent-1\x18\x02";
    static const unsigned char another[] = "\x0a\x11llm.openai.gpt-4o\x12\x07"
                                           "agent-2\x18\x02";
    struct wire_reports r;
    for (size_t n = 1; n <= WIRE_REPORTS_MAX + 1; n += n == 1 ? WIRE_REPORTS_MAX - 1 : 1) {
        raw.n = 0;
        for (size_t i = 0; i < n; i++)
            bytes(1, one, sizeof one - 1);
        assert_int_equal(quick(true, &r), n <= WIRE_REPORTS_MAX ? n : 0);
    }
    raw.n = 0;
    assert_int_equal(quick(true, &r), 0);
    bytes(1, one, sizeof one - 1);
    bytes(1, another, sizeof another - 1);
    assert_int_equal(quick(true, &r), 0);
    report();
    assert_int_equal(quick(true, &r), 0);
    raw.n = 0;
    bytes(1, one, 0);
    assert_int_equal(quick(true, &r), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_messages_pass),
        cmocka_unit_test(reports_are_read_quickly),
        cmocka_unit_test(batches_are_read_quickly),
        cmocka_unit_test(raw_bytes_are_checked),
        cmocka_unit_test(nul_is_found_at_every_depth),
        cmocka_unit_test(fields_follow_their_rules),
        cmocka_unit_test(places_are_named_in_lists),
        cmocka_unit_test(senders_bugs_are_refused),
        cmocka_unit_test(a_newer_senders_fields_survive),
        cmocka_unit_test(every_rule_names_a_field),
        cmocka_unit_test(subjects_carry_their_messages),
        cmocka_unit_test(messages_become_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
