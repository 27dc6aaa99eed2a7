/* test_alert_web.c - what the channels of the web send: every field, every limit, nothing that the other side would take for markup. */
#include "alert/alert_json.h"
#include "alert/alert_text.h"
#include "alert/alert_web.h"
#include "common/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SEV(name) REDOUBT__V1__SEVERITY__SEVERITY_##name
#define MANY      100

/* A message of one or many alerts, with room for long texts. */
struct many {
    PB(Alert) alerts[MANY];
    const PB(Alert) * list[MANY];
    char ids[MANY][16], keys[MANY][32], summaries[MANY][513];
    PB(Label) labels[3], *label_list[3];
    char *actions[2];
    struct alert_message m;
};

static struct many *messages(enum alert_message_kind kind, size_t n)
{
    struct many *x = calloc(1, sizeof *x);
    assert_non_null(x);
    static const char *const keys[] = {"region", "runbook", "not_a_link"}, *const values[] = {
                                                                               "eu", "https://wiki.example.org/r?a=1",
                                                                               "https://a b"};
    for (size_t i = 0; i < 3; i++) {
        x->labels[i] = (PB(Label))REDOUBT__V1__LABEL__INIT;
        x->labels[i].key = (char *)keys[i];
        x->labels[i].value = (char *)values[i];
        x->label_list[i] = &x->labels[i];
    }
    x->actions[0] = (char *)"override_activated";
    x->actions[1] = (char *)"increased_monitoring";
    for (size_t i = 0; i < n; i++) {
        PB(Alert) *a = &x->alerts[i];
        *a = (PB(Alert))REDOUBT__V1__ALERT__INIT;
        snprintf(x->ids[i], sizeof x->ids[i], "id-%zu", i);
        snprintf(x->keys[i], sizeof x->keys[i], "key/%zu", i);
        snprintf(x->summaries[i], sizeof x->summaries[i], "LLM outage %zu: größer ☂", i);
        a->id = x->ids[i];
        a->dedup_key = x->keys[i];
        a->summary = x->summaries[i];
        a->severity = SEV(HIGH);
        a->source = (char *)"fallback";
        a->agent = (char *)"sec-agent";
        a->target = (char *)"llm.openai.gpt-4o";
        a->failure_kind = REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE;
        a->detail = (char *)"@everyone <!channel> *bold* `code` ```fence``` [x](http://y) <b>&amp;";
        a->n_labels = 3;
        a->labels = x->label_list;
        a->n_actions_taken = 2;
        a->actions_taken = x->actions;
        a->raised_unix_ms = 1700000000042;
        a->evidence_unix_ms = 1699999999000;
        x->list[i] = a;
    }
    x->m = alert_message_one(x->list, "a note");
    if (kind != ALERT_MESSAGE_ONE) {
        x->m.kind = kind;
        x->m.id = "group-1";
        x->m.title = "many alerts of one group";
        x->m.n = n;
        x->m.total = kind == ALERT_MESSAGE_DIGEST ? 5000 : n;
        x->m.from_unix_ms = 1600000000000;
    }
    return x;
}

static json_t *parsed(char *text)
{
    json_error_t e;
    assert_non_null(text);
    json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, &e);
    if (!o)
        fail_msg("%s: %s", e.text, text);
    free(text);
    return o;
}

static const char *text_at(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static size_t units(const char *s)
{
    size_t n = 0;
    for (size_t at = 0, len = strlen(s); at < len;) {
        uint32_t code;
        size_t step = utf8_next(s + at, len - at, &code);
        assert_true(step > 0);
        n += code > 0xffff ? 2 : 1;
        at += step;
    }
    return n;
}

/* ---- the message as JSON ---- */

static void json_of_one(void **state)
{
    (void)state;
    struct many *x = messages(ALERT_MESSAGE_ONE, 1);
    size_t len = 0;
    char *text = alert_json(&x->m, &len);
    assert_int_equal(len, strlen(text));
    assert_null(strchr(text, '\n'));
    json_t *o = parsed(text);
    assert_string_equal(text_at(o, "kind"), "one");
    assert_string_equal(text_at(o, "id"), "id-0");
    assert_string_equal(text_at(o, "title"), "[HIGH] LLM outage 0: größer ☂");
    assert_string_equal(text_at(o, "severity"), "HIGH");
    assert_true(json_is_false(json_object_get(o, "resolved")));
    assert_int_equal(json_integer_value(json_object_get(o, "total")), 1);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(o, "times"), 0)), 1);
    assert_string_equal(text_at(o, "note"), "a note");
    assert_string_equal(text_at(o, "from"), "2023-11-14T22:13:20.042Z");
    assert_string_equal(text_at(o, "to"), "2023-11-14T22:13:20.042Z");
    assert_int_equal(json_integer_value(json_object_get(o, "fromUnixMs")), 1700000000042);
    assert_non_null(strstr(text_at(o, "text"), "override_activated"));
    const json_t *list = json_object_get(o, "alerts"), *a = json_array_get(list, 0);
    assert_int_equal(json_array_size(list), 1);
    static const struct {
        const char *key, *value;
    } texts[] = {{"id", "id-0"},
                 {"dedupKey", "key/0"},
                 {"severity", "HIGH"},
                 {"source", "fallback"},
                 {"agent", "sec-agent"},
                 {"target", "llm.openai.gpt-4o"},
                 {"failureKind", "LLM_OUTAGE"},
                 {"summary", "LLM outage 0: größer ☂"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_string_equal(text_at(a, texts[i].key), texts[i].value);
    static const char *const others[] = {"detail",   "actionsTaken",   "manualInterventionRequired",
                                         "labels",   "evidenceUnixMs", "raisedUnixMs",
                                         "resolved", "selfTest"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_non_null(json_object_get(a, others[i]));
    assert_string_equal(text_at(json_array_get(json_object_get(a, "labels"), 0), "key"), "region");
    json_decref(o);
    free(x);
}

static void json_of_many(void **state)
{
    (void)state;
    struct many *x = messages(ALERT_MESSAGE_DIGEST, MANY);
    const uint32_t times[MANY] = {1, 7};
    x->m.times = times;
    json_t *o = parsed(alert_json(&x->m, NULL));
    assert_string_equal(text_at(o, "kind"), "digest");
    assert_int_equal(json_integer_value(json_object_get(o, "total")), 5000);
    assert_int_equal(json_array_size(json_object_get(o, "alerts")), MANY);
    assert_int_equal(json_array_size(json_object_get(o, "times")), MANY);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(o, "times"), 1)), 7);
    json_decref(o);

    /* Large ones: it has a bound, and the first are in it. */
    char *large = malloc(8193);
    memset(large, '"', 8192); /* each is two in JSON */
    large[8192] = 0;
    for (size_t i = 0; i < MANY; i++)
        x->alerts[i].detail = large;
    size_t len = 0;
    char *text = alert_json(&x->m, &len);
    assert_true(len > ALERT_JSON_MAX / 2 && len < ALERT_JSON_MAX + 64 * 1024);
    o = parsed(text);
    const json_t *list = json_object_get(o, "alerts");
    assert_true(json_array_size(list) >= 1 && json_array_size(list) < MANY);
    assert_int_equal(json_array_size(json_object_get(o, "times")), json_array_size(list));
    assert_string_equal(text_at(json_array_get(list, 0), "id"), "id-0");
    json_decref(o);
    free(large);
    free(x);
}

/* ---- PagerDuty ---- */

static void pagerduty_triggers(void **state)
{
    (void)state;
    struct many *x = messages(ALERT_MESSAGE_ONE, 1);
    json_t *o = parsed(alert_pagerduty_payload(&x->m, x->list[0], "KEY")), *p = json_object_get(o, "payload");
    assert_string_equal(text_at(o, "routing_key"), "KEY");
    assert_string_equal(text_at(o, "event_action"), "trigger");
    assert_string_equal(text_at(o, "dedup_key"), "key/0");
    assert_string_equal(text_at(p, "summary"), "LLM outage 0: größer ☂");
    assert_string_equal(text_at(p, "source"), "llm.openai.gpt-4o");
    assert_string_equal(text_at(p, "severity"), "error");
    assert_string_equal(text_at(p, "timestamp"), "2023-11-14T22:13:20.042Z");
    assert_string_equal(text_at(p, "component"), "fallback");
    assert_string_equal(text_at(p, "group"), "sec-agent");
    assert_string_equal(text_at(p, "class"), "LLM_OUTAGE");
    const json_t *details = json_object_get(p, "custom_details");
    assert_int_equal(json_array_size(json_object_get(details, "actions_taken")), 2);
    assert_string_equal(text_at(json_object_get(details, "labels"), "region"), "eu");
    assert_string_equal(text_at(details, "note"), "a note");
    /* A label that is an address is a link; one that only begins like it is not. */
    const json_t *links = json_object_get(o, "links");
    assert_int_equal(json_array_size(links), 1);
    assert_string_equal(text_at(json_array_get(links, 0), "href"), "https://wiki.example.org/r?a=1");
    assert_string_equal(text_at(json_array_get(links, 0), "text"), "runbook");
    json_decref(o);

    static const struct {
        int severity;
        const char *name;
    } rows[] = {{SEV(INFO), "info"}, {SEV(WARNING), "warning"}, {SEV(HIGH), "error"}, {SEV(CRITICAL), "critical"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        x->alerts[0].severity = (Redoubt__V1__Severity)rows[i].severity;
        o = parsed(alert_pagerduty_payload(&x->m, x->list[0], "KEY"));
        assert_string_equal(text_at(json_object_get(o, "payload"), "severity"), rows[i].name);
        json_decref(o);
    }
    /* Nothing is known of where it is: PagerDuty wants a source all the same. */
    x->alerts[0].target = x->alerts[0].agent = x->alerts[0].source = (char *)"";
    o = parsed(alert_pagerduty_payload(&x->m, x->list[0], "KEY"));
    assert_string_equal(text_at(json_object_get(o, "payload"), "source"), "redoubt");
    json_decref(o);
    free(x);
}

static void pagerduty_resolves(void **state)
{
    (void)state;
    struct many *x = messages(ALERT_MESSAGE_ONE, 1);
    x->alerts[0].resolved = true;
    json_t *o = parsed(alert_pagerduty_payload(&x->m, x->list[0], "KEY"));
    assert_string_equal(text_at(o, "event_action"), "resolve");
    assert_string_equal(text_at(o, "dedup_key"), "key/0");
    assert_null(json_object_get(o, "payload"));
    json_decref(o);
    /* The service's own test opens nothing, whatever it is. */
    x->alerts[0].resolved = false;
    x->alerts[0].self_test = true;
    o = parsed(alert_pagerduty_payload(&x->m, x->list[0], "KEY"));
    assert_string_equal(text_at(o, "event_action"), "resolve");
    assert_string_equal(text_at(o, "dedup_key"), "redoubt-self-test");
    json_decref(o);
    free(x);
}

static void pagerduty_within_its_limits(void **state)
{
    (void)state;
    struct many *x = messages(ALERT_MESSAGE_DIGEST, MANY);
    char *payload = alert_pagerduty_payload(&x->m, NULL, "KEY");
    assert_true(strlen(payload) <= 512 * 1024);
    json_t *o = parsed(payload), *p = json_object_get(o, "payload");
    assert_string_equal(text_at(o, "dedup_key"), "group-1"); /* the same after each restart */
    assert_string_equal(text_at(o, "event_action"), "trigger");
    assert_true(units(text_at(p, "summary")) > 0);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(p, "custom_details"), "total")), 5000);
    json_decref(o);

    /* The most that an alert may hold. */
    PB(Alert) *a = &x->alerts[0];
    char *detail = malloc(8193), key[256];
    memset(detail, '\\', 8192);
    detail[8192] = 0;
    memset(key, 'k', 255);
    key[255] = 0;
    for (size_t i = 0; i + 3 < sizeof x->summaries[0]; i += 3)
        memcpy(x->summaries[0] + i, "☂", 3);
    a->detail = detail;
    a->dedup_key = key;
    payload = alert_pagerduty_payload(&x->m, a, "KEY");
    assert_true(strlen(payload) <= 512 * 1024);
    o = parsed(payload);
    assert_int_equal(units(text_at(o, "dedup_key")), 255);
    assert_true(units(text_at(json_object_get(o, "payload"), "summary")) <= 1024);
    json_decref(o);
    free(detail);
    free(x);
}

/* ---- Teams ---- */

static void teams_card(void **state)
{
    (void)state;
    struct many *x = messages(ALERT_MESSAGE_ONE, 1);
    json_t *o = parsed(alert_teams_payload(&x->m));
    assert_string_equal(text_at(o, "type"), "message");
    const json_t *at = json_array_get(json_object_get(o, "attachments"), 0), *card = json_object_get(at, "content");
    assert_string_equal(text_at(at, "contentType"), "application/vnd.microsoft.card.adaptive");
    assert_true(json_is_null(json_object_get(at, "contentUrl")));
    assert_string_equal(text_at(card, "type"), "AdaptiveCard");
    assert_string_equal(text_at(card, "version"), "1.4");
    const json_t *body = json_object_get(card, "body"), *title = json_array_get(body, 0), *b;
    assert_string_equal(text_at(title, "text"), "\\[HIGH\\] LLM outage 0: größer ☂");
    assert_string_equal(text_at(title, "color"), "Attention");
    size_t i;
    bool found = false;
    json_array_foreach((json_t *)body, i, b)
    {
        assert_string_equal(text_at(b, "type"), "TextBlock");
        assert_true(json_is_true(json_object_get(b, "wrap")));
        assert_true(*text_at(b, "text"));
        assert_null(strchr(text_at(b, "text"), '\n'));
        found = found || strstr(text_at(b, "text"), "\\*bold\\* \\`code\\`");
    }
    assert_true(found); /* as text, not as markup */
    json_decref(o);
    x->m.resolved = true;
    o = parsed(alert_teams_payload(&x->m));
    card = json_object_get(json_array_get(json_object_get(o, "attachments"), 0), "content");
    assert_string_equal(text_at(json_array_get(json_object_get(card, "body"), 0), "color"), "Good");
    json_decref(o);
    free(x);
}

/* Details of the worst sorts of letters: each limit holds, and no character is cut. */
static const char *const letters[] = {"a", "*", "\"", "☂", "😀", "\n", "`", "<", "ab\n"};

static char *filled(const char *letter, size_t bytes)
{
    char *s = calloc(1, bytes + 1);
    size_t n = strlen(letter);
    for (size_t at = 0; at + n <= bytes; at += n)
        memcpy(s + at, letter, n);
    return s;
}

static void teams_within_its_limit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++) {
        struct many *x = messages(ALERT_MESSAGE_ONE, 1);
        char *detail = filled(letters[i], 8192);
        x->alerts[0].detail = detail;
        char *payload = alert_teams_payload(&x->m);
        assert_true(strlen(payload) <= 20000);
        assert_int_equal(utf8_valid_until(payload, strlen(payload)), strlen(payload));
        json_decref(parsed(payload));
        free(detail);
        free(x);
    }
}

/* ---- Discord ---- */

static void check_discord(const struct alert_message *m)
{
    json_t *o = parsed(alert_discord_payload(m));
    const json_t *embed = json_array_get(json_object_get(o, "embeds"), 0);
    const char *description = text_at(embed, "description"), *title = text_at(embed, "title"),
               *footer = text_at(json_object_get(embed, "footer"), "text");
    assert_true(units(text_at(o, "content")) <= 2000 && *text_at(o, "content"));
    assert_true(units(title) <= 256 && *title);
    assert_true(units(description) <= 4096);
    assert_true(units(footer) <= 2048);
    assert_true(units(title) + units(description) + units(footer) <= 6000);
    /* One block of code, and nothing ends it before its end. */
    assert_int_equal(strncmp(description, "```\n", 4), 0);
    assert_string_equal(description + strlen(description) - 4, "\n```");
    char *inside = strdup(description + 4);
    inside[strlen(inside) - 4] = 0;
    assert_null(strchr(inside, '`'));
    free(inside);
    const json_t *parse = json_object_get(json_object_get(o, "allowed_mentions"), "parse");
    assert_true(json_is_array(parse) && json_array_size(parse) == 0); /* @everyone calls nobody */
    json_decref(o);
}

static void discord_embed(void **state)
{
    (void)state;
    struct many *x = messages(ALERT_MESSAGE_ONE, 1);
    json_t *o = parsed(alert_discord_payload(&x->m));
    const json_t *embed = json_array_get(json_object_get(o, "embeds"), 0);
    assert_string_equal(text_at(o, "content"), "[HIGH] LLM outage 0: größer ☂");
    assert_string_equal(text_at(embed, "timestamp"), "2023-11-14T22:13:20.042Z");
    assert_int_equal(json_integer_value(json_object_get(embed, "color")), 0xe65100);
    json_decref(o);
    check_discord(&x->m);
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++) {
        char *detail = filled(letters[i], 8192), *summary = filled(letters[i], 512);
        x->alerts[0].detail = detail;
        x->alerts[0].summary = summary;
        check_discord(&x->m);
        free(detail);
        free(summary);
    }
    free(x);
    x = messages(ALERT_MESSAGE_DIGEST, MANY);
    check_discord(&x->m);
    free(x);
}

/* ---- ntfy ---- */

static void ntfy_message(void **state)
{
    (void)state;
    static const struct {
        int severity;
        bool resolved;
        int priority;
        const char *tag;
    } rows[] = {{SEV(INFO), false, 2, "information_source"},
                {SEV(WARNING), false, 3, "warning"},
                {SEV(HIGH), false, 4, "red_circle"},
                {SEV(CRITICAL), false, 5, "rotating_light"},
                {SEV(CRITICAL), true, 3, "white_check_mark"}};
    struct many *x = messages(ALERT_MESSAGE_ONE, 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        x->m.severity = rows[i].severity;
        x->m.resolved = rows[i].resolved;
        json_t *o = parsed(alert_ntfy_payload(&x->m, "topic_1"));
        assert_string_equal(text_at(o, "topic"), "topic_1");
        assert_string_equal(text_at(o, "title"), "[HIGH] LLM outage 0: größer ☂");
        assert_int_equal(json_integer_value(json_object_get(o, "priority")), rows[i].priority);
        assert_string_equal(json_string_value(json_array_get(json_object_get(o, "tags"), 0)), rows[i].tag);
        json_decref(o);
    }
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++) {
        char *detail = filled(letters[i], 8192);
        x->alerts[0].detail = detail;
        json_t *o = parsed(alert_ntfy_payload(&x->m, "t"));
        const char *text = text_at(o, "message");
        assert_true(strlen(text) <= 4096);
        assert_int_equal(utf8_valid_until(text, strlen(text)), strlen(text));
        json_decref(o);
        free(detail);
    }
    free(x);
}

/* ---- Slack ---- */

static void slack_in_sections(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++) {
        struct many *x = messages(ALERT_MESSAGE_ONE, 1);
        char *detail = filled(letters[i], 8192);
        x->alerts[0].detail = detail;
        json_t *o = parsed(alert_slack_payload(&x->m));
        const json_t *blocks = json_object_get(o, "blocks"), *b;
        size_t k, sum = 0, sections = 0;
        assert_true(json_array_size(blocks) <= 50);
        assert_true(*text_at(o, "text"));
        json_array_foreach((json_t *)blocks, k, b)
        {
            const char *text = text_at(json_object_get(b, "text"), "text");
            bool section = strcmp(text_at(b, "type"), "section") == 0;
            assert_true(units(text) <= (section ? 3000u : 150u));
            assert_true(!section || (*text && *text != '\n'));
            sections += section;
            sum += units(text);
        }
        assert_true(sum <= 13000);
        assert_true(sections >= 1);
        /* What one section does not hold stands in the next. */
        if (strcmp(letters[i], "a") == 0)
            assert_true(sections >= 3 && sum > 8192);
        json_decref(o);
        free(detail);
        free(x);
    }
}

/* ---- texts that fit ---- */

static void cut_between_characters(void **state)
{
    (void)state;
    assert_int_equal(alert_web_cut("", 5), 0);
    assert_int_equal(alert_web_cut("abc", 5), 3);
    assert_int_equal(alert_web_cut("abc", 2), 2);
    assert_int_equal(alert_web_cut("☂☂☂", 2), 6);
    assert_int_equal(alert_web_cut("😀😀", 3), 4); /* each is two, as others count */
    assert_int_equal(alert_web_cut("a\xff", 5), 1);
    static const struct {
        const char *in, *out;
        size_t units, bytes;
    } rows[] = {{"abcdef", "abcdef", 6, 99}, {"abcdefg", "abc...", 6, 99}, {"☂☂☂☂☂", "☂☂...", 99, 10},
                {"☂☂☂", "☂☂☂", 3, 9},        {"😀😀😀😀", "😀...", 6, 99},      {"", "", 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *s = alert_web_text(rows[i].in, rows[i].units, rows[i].bytes);
        assert_string_equal(json_string_value(s), rows[i].out);
        json_decref(s);
    }
    assert_string_equal(alert_web_rest("title\n\nrest\nmore"), "rest\nmore");
    assert_string_equal(alert_web_rest("title"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_of_one),
        cmocka_unit_test(json_of_many),
        cmocka_unit_test(pagerduty_triggers),
        cmocka_unit_test(pagerduty_resolves),
        cmocka_unit_test(pagerduty_within_its_limits),
        cmocka_unit_test(teams_card),
        cmocka_unit_test(teams_within_its_limit),
        cmocka_unit_test(discord_embed),
        cmocka_unit_test(ntfy_message),
        cmocka_unit_test(slack_in_sections),
        cmocka_unit_test(cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
