/* test_alert_digest.c - the words of groups and digests, as text, mail and Slack message: what they say, and that nothing can be forged by them. */
#include "alert/alert_channel.h"
#include "alert/alert_digest.h"
#include "alert/alert_mail.h"
#include "common/utf8.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEAP_MAX 3000
struct heap { /* what stands on a stream, and is read twice */
    PB(Alert) * alerts[HEAP_MAX];
    size_t n;
};

/* A copy of its own, as from the wire. */
static PB(Alert) * copy(const PB(Alert) * a)
{
    size_t len;
    struct err e;
    void *data = wire_pack(a, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    PB(Alert) *out = wire_unpack(PB_DESC(alert), data, len, &e);
    free(data);
    assert_non_null(out);
    return out;
}

static void add(struct heap *h, const char *key, int severity, bool resolved, const char *summary, const char *detail)
{
    char id[16];
    snprintf(id, sizeof id, "a%zu", h->n);
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.id = id;
    a.dedup_key = (char *)key;
    a.severity = (Redoubt__V1__Severity)severity;
    a.resolved = resolved;
    a.source = (char *)"test";
    a.agent = (char *)"mcp";
    a.summary = (char *)summary;
    a.detail = (char *)detail;
    a.raised_unix_ms = 1700000000000 + (int64_t)h->n * 1000;
    h->alerts[h->n++] = copy(&a);
}

static struct alert_digest *digest(struct heap *h, const char *subject, uint64_t first_seq)
{
    static struct alert_tally t;
    struct alert_parcel_name name;
    size_t places[ALERT_SHOWN_MAX];
    PB(Alert) * shown[ALERT_SHOWN_MAX];
    assert_int_equal(alert_parcel_parse(subject, &name), 0);
    alert_tally_clear(&t);
    for (size_t i = 0; i < h->n; i++)
        alert_tally_add(&t, h->alerts[i], first_seq + i);
    size_t n = alert_tally_worst(&t, ALERT_SHOWN_MAX, places);
    for (size_t i = 0; i < n; i++)
        shown[i] = copy(h->alerts[t.problems[places[i]].seq - first_seq]);
    return alert_digest_make(&name, &t, places, shown, n);
}

static void heap_free(struct heap *h)
{
    for (size_t i = 0; i < h->n; i++)
        wire_free(h->alerts[i]);
    h->n = 0;
}

static void says_what_it_stands_for(void **state)
{
    (void)state;
    static struct heap h;
    add(&h, "disk", 3, false, "The disk is full", "no room");
    add(&h, "llm", 2, false, "The model is slow", "");
    add(&h, "disk", 4, false, "The disk is full to the brim", "none at all");
    add(&h, "net", 4, false, "The network is gone", "");
    add(&h, "net", 4, true, "The network is back", "");
    static const struct {
        const char *subject, *title;
        enum alert_message_kind kind;
    } rows[] = {
        {SUBJECT_PARCEL "group.team.ops-17", "5 alerts of 3 problems: The disk is full to the brim, and more",
         ALERT_MESSAGE_GROUP},
        {SUBJECT_PARCEL "quiet.team.night", "5 alerts of 3 problems since quiet hours began (night)",
         ALERT_MESSAGE_DIGEST},
        {SUBJECT_PARCEL "overflow.chat.all", "5 alerts of 3 problems, more than chat takes one by one",
         ALERT_MESSAGE_DIGEST},
        {SUBJECT_PARCEL "owed.team.all", "5 alerts of 3 problems that no channel accepted until now",
         ALERT_MESSAGE_DIGEST},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct alert_digest *d = digest(&h, rows[i].subject, 7);
        char head[ALERT_TITLE_MAX], want[ALERT_TITLE_MAX];
        assert_string_equal(d->title, rows[i].title);
        assert_string_equal(d->note, "2 critical, 1 high, 1 warning; 1 problem is over");
        assert_int_equal(d->message.kind, rows[i].kind);
        assert_int_equal(d->message.severity, 4);
        assert_false(d->message.resolved);
        assert_int_equal(d->message.total, 5);
        assert_int_equal(d->message.n, 3);
        assert_int_equal(d->message.from_unix_ms, 1700000000000);
        assert_int_equal(d->message.to_unix_ms, 1700000004000);
        assert_int_equal(d->first_seq, 7);
        assert_int_equal(d->last_seq, 11);
        assert_true(strlen(d->id) <= 64 && d->id[strspn(d->id, "abcdefghijklmnopqrstuvwxyz0123456789-")] == 0);
        assert_non_null(strstr(d->id, "-7-11"));
        snprintf(want, sizeof want, "[CRITICAL] %s", rows[i].title);
        assert_string_equal(alert_text_headline(&d->message, head), want);
        char *body = alert_text_body(&d->message);
        const char *disk = strstr(body, "[CRITICAL] The disk is full to the brim (2 alerts)"),
                   *llm = strstr(body, "[WARNING] The model is slow\n"),
                   *net = strstr(body, "[RESOLVED] The network is back (2 alerts)");
        assert_true(disk && llm && net && disk < llm && llm < net); /* the worst first, what is over last */
        assert_non_null(strstr(body, "2 critical, 1 high, 1 warning; 1 problem is over.\n"));
        assert_non_null(strstr(body, "problem disk"));
        assert_non_null(strstr(body, d->id));
        assert_null(strstr(body, "The network is gone")); /* its last word counts */
        free(body);
        alert_digest_free(d);
    }
    heap_free(&h);
}

static void all_over_is_said(void **state)
{
    (void)state;
    static struct heap h;
    add(&h, "a", 4, false, "It is broken", "");
    add(&h, "a", 4, true, "It works again", "");
    struct alert_digest *d = digest(&h, SUBJECT_PARCEL "group.team.ops-17", 1);
    char head[ALERT_TITLE_MAX];
    assert_true(d->message.resolved);
    assert_string_equal(alert_text_headline(&d->message, head), "[RESOLVED] 2 alerts of 1 problem: It works again");
    alert_digest_free(d);
    heap_free(&h);
}

static void the_rest_is_counted(void **state)
{
    (void)state;
    static struct heap h;
    char key[16];
    for (int i = 0; i < HEAP_MAX; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add(&h, key, i == HEAP_MAX - 1 ? 4 : 2, false, "Something", "");
    }
    struct alert_digest *d = digest(&h, SUBJECT_PARCEL "owed.team.all", 1);
    assert_int_equal(d->n, ALERT_SHOWN_MAX);
    assert_string_equal(d->shown[0]->dedup_key, "k2999"); /* the worst is there, though it came last */
    assert_string_equal(d->title, "3000 alerts of more than 2000 problems that no channel accepted until now");
    assert_string_equal(
        d->note,
        "1 critical, 2999 warning; not shown: 1900 problems and 1000 alerts of still others; they are on the "
        "record and on stream ALERTS");
    alert_digest_free(d);
    heap_free(&h);
}

/* However long what is shown is: what a message holds is bounded, and still it holds something. */
static void long_alerts_do_not_make_it_longer(void **state)
{
    (void)state;
    static struct heap h;
    static char detail[8193];
    memset(detail, 'd', sizeof detail - 1);
    char key[16], summary[513];
    memset(summary, 's', 512);
    summary[512] = 0;
    for (int i = 0; i < 150; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add(&h, key, 3, false, summary, detail);
    }
    struct alert_digest *d = digest(&h, SUBJECT_PARCEL "group.team.ops-17", 1);
    size_t bytes = 0;
    for (size_t i = 0; i < d->n; i++)
        bytes += protobuf_c_message_get_packed_size(&d->shown[i]->base);
    assert_true(bytes <= ALERT_DIGEST_BYTES_MAX);
    assert_in_range(d->n, 10, 40);
    char says[64];
    snprintf(says, sizeof says, "not shown: %zu problems", 150 - d->n);
    assert_non_null(strstr(d->note, says));
    char head[ALERT_TITLE_MAX];
    assert_true(strlen(alert_text_headline(&d->message, head)) < ALERT_TITLE_MAX);
    alert_digest_free(d);
    heap_free(&h);
}

/* Some are gone when they are read again, or all. */
static void what_is_not_to_be_had_is_left_out(void **state)
{
    (void)state;
    static struct alert_tally t;
    struct alert_parcel_name name;
    alert_parcel_name(&name, ALERT_PARCEL_OWED, "team", "all");
    static struct heap h;
    add(&h, "a", 3, false, "one", "");
    add(&h, "b", 3, false, "two", "");
    alert_tally_clear(&t);
    alert_tally_add(&t, h.alerts[0], 1);
    alert_tally_add(&t, h.alerts[1], 2);
    size_t places[2];
    assert_int_equal(alert_tally_worst(&t, 2, places), 2);
    PB(Alert) * shown[2] = {NULL, copy(h.alerts[1])};
    struct alert_digest *d = alert_digest_make(&name, &t, places, shown, 2);
    assert_int_equal(d->n, 1);
    assert_int_equal(d->message.total, 2);
    assert_non_null(strstr(d->note, "not shown: 1 problem;"));
    alert_digest_free(d);
    PB(Alert) * none[2] = {NULL, NULL};
    assert_null(alert_digest_make(&name, &t, places, none, 2));
    alert_digest_free(NULL);
    heap_free(&h);
}

/* ---- mail ---- */

static char *mail_of(const struct alert_message *message)
{
    static const char *const to[] = {"ops@example.org", NULL};
    struct alert_mail m = {.channel = "post", .from = "redoubt@example.org", .to = to, .now_unix_ms = 1700000000000};
    size_t len = 0;
    char *mail = alert_mail_compose(message, &m, &len);
    assert_non_null(mail);
    assert_int_equal(len, strlen(mail));
    return mail;
}

static void thread_of(const char *mail, char out[static 96])
{
    const char *at = strstr(mail, "\nReferences: ");
    assert_non_null(at);
    at += strlen("\nReferences: ");
    snprintf(out, 96, "%.*s", (int)strcspn(at, "\n"), at);
}

static void mails_of_one_bucket_are_one_thread(void **state)
{
    (void)state;
    static struct heap h;
    add(&h, "a", 4, false, "one", "");
    add(&h, "b", 3, false, "two", "");
    struct alert_digest *first = digest(&h, SUBJECT_PARCEL "owed.team.all", 1),
                        *second = digest(&h, SUBJECT_PARCEL "owed.team.all", 500),
                        *other = digest(&h, SUBJECT_PARCEL "owed.post.all", 1);
    char *mails[] = {mail_of(&first->message), mail_of(&second->message), mail_of(&other->message)}, threads[3][96];
    for (size_t i = 0; i < 3; i++)
        thread_of(mails[i], threads[i]);
    assert_string_equal(threads[0], threads[1]);
    assert_string_not_equal(threads[0], threads[2]);
    assert_non_null(strstr(threads[0], "<digest."));
    assert_non_null(
        strstr(mails[0], "\nSubject: [CRITICAL] 2 alerts of 2 problems that no channel accepted until now\n"));
    assert_non_null(strstr(mails[0], "\nX-Redoubt-Severity: CRITICAL\nX-Redoubt-Alerts: 2\nX-Priority: 1\n"));
    char id[128];
    snprintf(id, sizeof id, "\nMessage-ID: <%s.post@example.org>\n", first->id);
    assert_non_null(strstr(mails[0], id));
    for (size_t i = 0; i < 3; i++)
        free(mails[i]);
    alert_digest_free(first);
    alert_digest_free(second);
    alert_digest_free(other);
    heap_free(&h);
}

static void nothing_in_it_becomes_a_header(void **state)
{
    (void)state;
    static struct heap h;
    add(&h, "a\r\nBcc: x@example.org", 4, false, "one\r\nBcc: evil@example.org\r\n\r\nbody", "");
    add(&h, "b", 4, false, "größer ☂ =?UTF-8?B?eA==?=", "");
    struct alert_digest *d = digest(&h, SUBJECT_PARCEL "group.team.ops-17", 1);
    char *mail = mail_of(&d->message);
    const char *body = strstr(mail, "\n\n");
    const char *forged = strstr(mail, "\nBcc:");
    assert_true(body && (!forged || forged > body));
    assert_null(strchr(mail, '\r'));
    free(mail);
    alert_digest_free(d);
    heap_free(&h);
}

/* ---- Slack ---- */

static void slack_takes_the_longest(void **state)
{
    (void)state;
    static struct heap h;
    char key[16], summary[512];
    for (size_t i = 0; i + 4 < sizeof summary; i += 3)
        memcpy(summary + i, "☂", 4);
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add(&h, key, 3, false, i % 2 ? summary : "<!channel> & <http://x|y>", "");
    }
    struct alert_digest *d = digest(&h, SUBJECT_PARCEL "owed.team.all", 1);
    char *payload = alert_slack_payload(&d->message);
    assert_non_null(payload);
    json_t *root = json_loads(payload, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    const char *section = NULL, *header = NULL;
    size_t i;
    const json_t *b;
    json_array_foreach(json_object_get(root, "blocks"), i, b)
    {
        const char *type = json_string_value(json_object_get(b, "type"));
        const char *text = json_string_value(json_object_get(json_object_get(b, "text"), "text"));
        if (type && strcmp(type, "header") == 0)
            header = text;
        if (type && strcmp(type, "section") == 0 && !section)
            section = text;
    }
    assert_non_null(header);
    assert_non_null(section);
    assert_int_equal(alert_text_cut(section, 3000, SIZE_MAX), strlen(section));
    assert_int_equal(alert_text_cut(header, 150, SIZE_MAX), strlen(header));
    assert_non_null(strstr(section, "200 high"));
    assert_null(strstr(section, "<!channel>"));
    json_decref(root);
    free(payload);
    alert_digest_free(d);
    heap_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_it_stands_for),
        cmocka_unit_test(all_over_is_said),
        cmocka_unit_test(the_rest_is_counted),
        cmocka_unit_test(long_alerts_do_not_make_it_longer),
        cmocka_unit_test(what_is_not_to_be_had_is_left_out),
        cmocka_unit_test(mails_of_one_bucket_are_one_thread),
        cmocka_unit_test(nothing_in_it_becomes_a_header),
        cmocka_unit_test(slack_takes_the_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
