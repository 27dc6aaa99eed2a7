/* test_alert_text.c - an alert in words: lines, mails that no alert can forge headers of, Slack's payload within its limits. */
#include "alert/alert_channel.h"
#include "alert/alert_mail.h"
#include "alert/alert_text.h"
#include "common/utf8.h"
#include <jansson.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static PB(Alert) plain_alert(void)
{
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.id = (char *)"al-1";
    a.dedup_key = (char *)"agent/mcp/llm";
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.source = (char *)"fallback";
    a.summary = (char *)"No LLM is left";
    a.raised_unix_ms = 1700000000000;
    return a;
}

static char *mail_of(const PB(Alert) * a, const char *note)
{
    static const char *const to[] = {"ops@example.org", "boss@example.org", NULL};
    struct alert_mail m = {.channel = "post", .from = "redoubt@example.org", .to = to, .now_unix_ms = 1700000000000};
    struct alert_message message = alert_message_one(&a, note);
    size_t len = 0;
    char *mail = alert_mail_compose(&message, &m, &len);
    assert_non_null(mail);
    assert_int_equal(len, strlen(mail));
    return mail;
}

/* The lines of the header; folded ones joined. */
static char *header(const char *mail, const char *name)
{
    static char out[8192];
    size_t n = 0;
    const char *end = strstr(mail, "\n\n");
    assert_non_null(end);
    for (const char *p = mail; p < end; p = strchr(p, '\n') + 1) {
        if (strncmp(p, name, strlen(name)) != 0 || p[strlen(name)] != ':')
            continue;
        p += strlen(name) + 1;
        do {
            size_t len = strcspn(p, "\n");
            memcpy(out + n, p, len);
            n += len;
            p += len + 1;
        } while (*p == ' ');
        out[n] = 0;
        return out + strspn(out, " ");
    }
    return NULL;
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

static void a_plain_mail(void **state)
{
    (void)state;
    PB(Alert) a = plain_alert();
    char *actions[] = {(char *)"override_activated", (char *)"increased_monitoring"};
    a.actions_taken = actions;
    a.n_actions_taken = 2;
    a.manual_intervention_required = true;
    char *mail = mail_of(&a, "was repeated 3 times");
    assert_string_equal(header(mail, "Date"), "Tue, 14 Nov 2023 22:13:20 +0000");
    assert_string_equal(header(mail, "From"), "Redoubt <redoubt@example.org>");
    assert_string_equal(header(mail, "To"), "<ops@example.org>, <boss@example.org>");
    assert_string_equal(header(mail, "Subject"), "[HIGH] No LLM is left");
    assert_string_equal(header(mail, "Message-ID"), "<al-1.post@example.org>");
    assert_string_equal(header(mail, "Content-Transfer-Encoding"), "7bit");
    const char *body = strstr(mail, "\n\n");
    assert_non_null(strstr(body, "MANUAL INTERVENTION REQUIRED"));
    assert_non_null(strstr(body, "  - override_activated\n  - increased_monitoring\n"));
    assert_non_null(strstr(body, "was repeated 3 times"));
    assert_non_null(strstr(body, "2023-11-14T22:13:20.000Z"));
    a.resolved = true;
    char *over = mail_of(&a, NULL);
    assert_string_equal(header(over, "Subject"), "[RESOLVED] No LLM is left");
    char *thread = strdup(header(over, "References"));
    assert_string_equal(header(mail, "References"), thread);
    free(thread);
    free(over);
    free(mail);
}

static void no_alert_forges_a_header(void **state)
{
    (void)state;
    static const char *const evil[] = {"x\r\nBcc: everybody@example.org", "x\nBcc: e@example.org\n\nbody",
                                       "=?UTF-8?B?QmNjOg==?= x", "ünïcode\r\nBcc: x", "a\x01\x7f b"};
    for (size_t i = 0; i < sizeof evil / sizeof *evil; i++) {
        PB(Alert) a = plain_alert();
        a.summary = (char *)evil[i];
        a.dedup_key = (char *)evil[i];
        a.detail = (char *)evil[i];
        char *mail = mail_of(&a, NULL);
        assert_null(header(mail, "Bcc"));
        assert_int_equal(count(mail, "\nSubject:"), 1);
        const char *end = strstr(mail, "\n\n");
        for (const char *p = mail; p < end; p++)
            assert_true(*p == '\n' || ((unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f));
        free(mail);
    }
}

static void a_long_subject_in_every_script(void **state)
{
    (void)state;
    char summary[512] = "";
    for (size_t i = 0; i < 50; i++)
        strcat(summary, i % 2 ? "größe ☂" : "日本");
    PB(Alert) a = plain_alert();
    a.summary = summary;
    char *mail = mail_of(&a, NULL), expected[640], decoded[1024] = "";
    snprintf(expected, sizeof expected, "[HIGH] %s", summary);
    /* Each word by itself is whole code points and at most 75 characters; all together they are the title. */
    size_t n = 0;
    char *value = header(mail, "Subject");
    for (char *word = strtok(value, " "); word; word = strtok(NULL, " ")) {
        assert_true(strlen(word) <= 75);
        assert_int_equal(strncmp(word, "=?UTF-8?B?", 10), 0);
        word[strlen(word) - 2] = 0;
        size_t got = 0;
        assert_int_equal(sodium_base642bin((unsigned char *)decoded + n, sizeof decoded - n, word + 10,
                                           strlen(word + 10), NULL, &got, NULL, sodium_base64_VARIANT_ORIGINAL),
                         0);
        assert_int_equal(utf8_valid_until(decoded + n, got), got);
        n += got;
    }
    decoded[n] = 0;
    assert_string_equal(decoded, expected);
    for (const char *p = mail; *p; p += strcspn(p, "\n") + 1)
        assert_true(strcspn(p, "\n") <= 998);
    free(mail);
}

static void bodies_that_need_encoding(void **state)
{
    (void)state;
    char detail[8192];
    memset(detail, 'x', sizeof detail - 1);
    detail[sizeof detail - 1] = 0;
    PB(Alert) a = plain_alert();
    a.detail = detail;
    char *mail = mail_of(&a, NULL);
    assert_string_equal(header(mail, "Content-Transfer-Encoding"), "quoted-printable");
    for (const char *p = mail; *p; p += strcspn(p, "\n") + 1)
        assert_true(strcspn(p, "\n") <= 76 || p < strstr(mail, "\n\n"));
    free(mail);
    a.detail = (char *)"a = b; größer \t\n.\nFrom here";
    mail = mail_of(&a, NULL);
    assert_non_null(strstr(mail, "a =3D b; gr=C3=B6=C3=9Fer =09\n"));
    free(mail);
}

static void slack_within_its_limits(void **state)
{
    (void)state;
    char detail[8193], summary[513];
    memset(detail, '&', sizeof detail - 1);
    detail[sizeof detail - 1] = 0;
    memset(summary, 0, sizeof summary);
    for (size_t i = 0; i + 3 < sizeof summary; i += 3)
        memcpy(summary + i, "☂", 3);
    PB(Alert) a = plain_alert();
    a.detail = detail;
    a.summary = summary;
    const PB(Alert) * list[] = {&a};
    struct alert_message message = alert_message_one(list, NULL);
    char *payload = alert_slack_payload(&message);
    assert_non_null(payload);
    json_t *root = json_loads(payload, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    const char *text = json_string_value(json_object_get(root, "text"));
    assert_non_null(text);
    assert_true(strlen(text) > 100);
    assert_int_equal(strncmp(text, "[HIGH] ☂", 10), 0);
    const json_t *blocks = json_object_get(root, "blocks");
    assert_in_range(json_array_size(blocks), 3, 50);
    const char *head = json_string_value(json_object_get(json_object_get(json_array_get(blocks, 0), "text"), "text"));
    assert_int_equal(alert_text_cut(head, 150, 1000), strlen(head));
    const char *section =
        json_string_value(json_object_get(json_object_get(json_array_get(blocks, 1), "text"), "text"));
    assert_true(strlen(section) <= 3000);
    assert_int_equal(strcmp(section + strlen(section) - 5, "&amp;"), 0); /* cut between, not inside */
    json_decref(root);
    free(payload);

    a = plain_alert();
    a.detail = (char *)"<!channel> & <http://x|y>";
    message = alert_message_one(list, "note");
    payload = alert_slack_payload(&message);
    assert_null(strstr(payload, "<!channel>"));
    assert_non_null(strstr(payload, "&lt;!channel&gt; &amp; &lt;http://x|y&gt;"));
    free(payload);
}

static void what_others_say_becomes_one_line(void **state)
{
    (void)state;
    char out[16];
    assert_string_equal(alert_text_clean("550 no\r\n", out, sizeof out), "550 no");
    assert_string_equal(alert_text_clean("a\xff\xfe"
                                         "b\x01",
                                         out, sizeof out),
                        "a??b");
    assert_string_equal(alert_text_clean("0123456789abcdefgh", out, sizeof out), "0123456789abcde");
    assert_string_equal(alert_text_clean("0123456789abc☂", out, sizeof out),
                        "0123456789abc"); /* never half a character */
    assert_string_equal(alert_text_clean("", out, sizeof out), "");
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_mail),
        cmocka_unit_test(no_alert_forges_a_header),
        cmocka_unit_test(a_long_subject_in_every_script),
        cmocka_unit_test(bodies_that_need_encoding),
        cmocka_unit_test(slack_within_its_limits),
        cmocka_unit_test(what_others_say_becomes_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
