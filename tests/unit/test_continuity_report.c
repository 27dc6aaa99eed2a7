/* test_continuity_report.c - reports of incidents: what is in them, that hostile texts stay texts, that proofs hold, that huge ones are bounded, and that
 * what people write is kept. */
#include "audit/audit_log.h"
#include "audit/audit_proof.h"
#include "common/clock.h"
#include "continuity/report.h"
#include "continuity/report_file.h"
#include <jansson.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "page_check.h"
#include "report_kit.h"

/* ---- texts ---- */

static void is(void (*put)(struct report_text *, const char *, size_t), const char *in, const char *out)
{
    struct report_text t = {0};
    put(&t, in, 1000);
    assert_string_equal(t.s ? t.s : "", out);
    free(t.s);
}

static void test_texts(void **state)
{
    (void)state;
    is(report_html, "<b a=\"1\" c='2'>&amp;", "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
    is(report_html, "a\nb\tc\x1b[31m\x7f", "a b c [31m ");
    is(report_html, "x\xff\xc0\xafy", "x\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdy");
    is(report_html,
       "abc\xe2\x80\xae"
       "fed\xe2\x80\x8b",
       "abcfed"); /* turned writing, and what is not seen */
    is(report_html_lines, "a\n<b>", "a\n&lt;b&gt;");
    is(report_md, "a|b `c` *d* _e_ mad_full [f](http://g) <h> &i;",
       "a\\|b \\`c\\` \\*d\\* \\_e\\_ mad_full \\[f\\](http&#58;//g) &lt;h&gt; &amp;i;");
    is(report_md, "# x", "\\# x");
    is(report_md, "1. x", "1\\. x");
    is(report_md, "a\n# b", "a \\# b");
    struct report_text t = {0};
    report_html(&t, "\xc3\xa4\xc3\xa4\xc3\xa4", 5); /* cut between characters */
    assert_string_equal(t.s, "\xc3\xa4\xc3\xa4…");
    t.n = 0;
    report_csv(&t, "=cmd|' /C calc'!A0", true);
    report_csv(&t, "a\"b\n", false);
    assert_string_equal(t.s, "\"'=cmd|' /C calc'!A0\",\"a\"\"b \"");
    free(t.s);
    char buf[REPORT_TIME_MAX];
    assert_string_equal(report_took(0, buf), "0 ms");
    assert_string_equal(report_took(59999, buf), "59.9 s");
    assert_string_equal(report_took(60000, buf), "1 min");
    assert_string_equal(report_took(7500000, buf), "2 h 05 min");
    assert_string_equal(report_took(3 * 86400000LL + 4 * 3600000, buf), "3 d 4 h");
    assert_string_equal(report_number(1234567, buf), "1,234,567");
    assert_string_equal(report_when(0, buf), "—");
}

/* ---- which records ---- */

static void test_scope(void **state)
{
    (void)state;
    const char *agents[] = {"a-1", "a-2"};
    struct report_scope s = {.id = "inc-1",
                             .agents = agents,
                             .n_agents = 2,
                             .target = "llm.openai",
                             .cause = "llm.openai.gpt-4o",
                             .from_ms = 100,
                             .to_ms = 200};
    PB(Label) label = PB_INIT(LABEL), *list[] = {&label};
    label.key = (char *)"dedup_key";
    static const struct {
        const char *subject, *actor, *key;
        int64_t at;
        bool wanted;
    } rows[] = {{"a-1", "fallback", "", 150, true},
                {"a-1", "fallback", "", 99, false},
                {"a-1", "fallback", "", 201, false},
                {"a-1", "fallback", "", 200, true},
                {"a-10", "fallback", "", 150, false},
                {"agent.a-2", "health", "", 150, true},
                {"agent.a-20", "health", "", 150, false},
                {"llm.openai.gpt-4o", "breaker", "", 150, true},
                {"llm.openai.gpt-3.5-turbo", "breaker", "", 150, true},
                {"llm.openaix", "breaker", "", 150, false},
                {"llm", "breaker", "", 150, false},
                {"inc-1", "ana", "", 150, true},
                {"other", "a-2", "", 150, true},
                {"alert-77", "alert", "agent/a-1/queue-dead", 150, true},
                {"alert-77", "alert", "agent/a-11/queue-dead", 150, false},
                {"alert-77", "alert", "breaker/llm.openai.gpt-4o", 150, true},
                {"alert-77", "alert", "continuity/incident/inc-1", 150, true},
                {"", "", "", 150, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
        r.subject = (char *)rows[i].subject;
        r.actor = (char *)rows[i].actor;
        r.action = (char *)"x.y";
        r.at_unix_ms = rows[i].at;
        label.value = (char *)rows[i].key;
        r.fields = list;
        r.n_fields = 1;
        if (report_wants(&s, &r) != rows[i].wanted)
            fail_msg("row %zu: %s", i, rows[i].subject);
    }
}

/* ---- one whole incident, with a real trail ---- */

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

static void has(const char *text, const char *what)
{
    if (!strstr(text, what))
        fail_msg("`%s` is not there", what);
}

static void has_not(const char *text, const char *what)
{
    const char *at = strstr(text, what);
    if (at)
        fail_msg("`%s` is there: %.100s", what, at);
}

/* Each proof of the file holds by itself, and says what the trail said. */
static size_t check_proofs(const char *json)
{
    json_error_t why;
    json_t *all = json_loads(json, JSON_REJECT_DUPLICATES, &why), *list = json_object_get(all, "proofs"), *one;
    size_t i, n = json_array_size(list);
    assert_non_null(all);
    json_array_foreach(list, i, one)
    {
        struct audit_proof p;
        struct err e = {""};
        char *text = json_dumps(json_object_get(one, "proof"), 0), leaf[65];
        unsigned char is_leaf[32];
        assert_non_null(text);
        if (audit_proof_check(text, strlen(text), NULL, &p, &e))
            fail_msg("%s", e.text);
        audit_merkle_leaf(p.stored, p.stored_len, is_leaf);
        sodium_bin2hex(leaf, sizeof leaf, is_leaf, sizeof is_leaf);
        assert_string_equal(leaf, json_string_value(json_object_get(one, "leaf")));
        assert_int_equal(p.seq, json_integer_value(json_object_get(one, "sequence")));
        free(p.stored);
        free(text);
    }
    json_decref(all);
    return n;
}

static void test_story(void **state)
{
    struct kit *k = *state;
    kit_story(k);
    struct report *r = kit_report(k);
    const struct report_trail *t = &k->trail;
    assert_int_equal(t->n_chains, 1);
    assert_true(t->chains[0].whole);
    assert_false(t->unproven);
    assert_false(t->from_bus);
    for (size_t i = 1; i < t->n; i++)
        assert_true(t->lines[i - 1].r->at_unix_ms <= t->lines[i].r->at_unix_ms);
    /* Impact, to the millisecond. */
    assert_int_equal(r->n_agents, 3);
    const struct report_agent *mcp = kit_agent(r, "mcp-1"), *two = kit_agent(r, "mcp-2"),
                              *scout = kit_agent(r, "scout");
    assert_int_equal(mcp->llm_ms, 60000);       /* backup model from +2 s to +62 s, */
    assert_int_equal(mcp->degraded_ms, 600000); /* security fallback until +662 s */
    assert_int_equal(mcp->full_ms, 0);
    assert_int_equal(two->llm_ms, 660000);
    assert_int_equal(scout->full_ms, 120000); /* its process was gone */
    assert_int_equal(r->sum.llm_ms, 720000);
    assert_int_equal(mcp->tally.queued, 4);
    assert_int_equal(mcp->tally.replayed, 4);
    assert_int_equal(mcp->tally.executed, 4);
    assert_int_equal(mcp->tally.refused, 1);
    assert_int_equal(r->sum.tally.queued, 4);
    assert_true(r->lost[0] && r->lost[1] && r->lost[2]);
    assert_int_equal(r->n_breached, 1);
    /* Who was told. */
    assert_int_equal(r->n_told, 3);
    assert_false(r->told[0].accepted);
    assert_string_equal(r->told[0].channel, "mail");
    assert_true(r->told[1].accepted);
    assert_string_equal(r->told[1].channel, "slack");
    assert_int_equal(r->first_told_ms, KIT_T0 + 6000);
    bool failed_channel = false, override = false, breached = false;
    for (size_t i = 0; i < r->n_findings; i++) {
        failed_channel = failed_channel || (!r->findings[i].good && strstr(r->findings[i].words, "channel failed"));
        override = override || (r->findings[i].good && strstr(r->findings[i].words, "override was activated"));
        breached = breached || (!r->findings[i].good && strstr(r->findings[i].words, "breached"));
    }
    assert_true(failed_channel && override && breached);

    struct report_text md = {0}, html = {0}, proofs = {0};
    struct report_kept none = {0};
    report_md_write(r, &none, &md);
    report_html_write(r, &none, &html);
    report_proofs_write(r, &proofs);
    assert_int_equal(check_proofs(proofs.s), t->n);
    has(md.s, "OpenAI is away");
    has(md.s, "## Lessons");
    has(md.s, REPORT_FOLLOW_UPS_BEGIN);
    has(md.s, "| Recovery, critical functions (RTO) |");
    has(md.s, "**breached**");
    has(md.s, "threat_detection");
    has(md.s, "Keep a second provider warm");
    has(html.s, "<svg viewBox=");
    has(html.s, "role=\"img\" aria-labelledby=\"chart-title chart-desc\"");
    has(html.s, "Content-Security-Policy");
    assert_int_equal(count(html.s, "<details>"), t->n);
    assert_int_equal(count(html.s, "redoubt-audit-proof/1"), t->n);
    has_not(html.s, "<script");
    has_not(html.s, "<link");
    has_not(html.s, "src=");
    has_not(html.s, "url(");
    has_not(html.s, "@import");
    assert_int_equal(count(html.s, "http"), 2); /* http-equiv, and the name of SVG's grammar, which nobody fetches */
    page_good(html.s);
    kit_keep_example(md.s, html.s);
    free(md.s);
    free(html.s);
    free(proofs.s);
    report_free(r);
}

/* A trail that does not verify, or is not there: said first, nothing is called proven. */
static void test_trouble(void **state)
{
    struct kit *k = *state;
    kit_story(k);
    char cmd[400];
    snprintf(cmd, sizeof cmd,
             "cd '%s/audit/0' && printf X | dd of=$(ls audit-*.seg | tail -1) bs=1 seek=330 conv=notrunc 2>/dev/null",
             k->dir);
    assert_int_equal(system(cmd), 0);
    report_trail_done(&k->trail);
    kit_read(k);
    struct report *r = kit_report(k);
    struct report_text html = {0}, md = {0};
    struct report_kept none = {0};
    assert_false(k->trail.chains[0].whole);
    for (size_t i = 0; i < k->trail.n; i++)
        assert_null(k->trail.lines[i].proof);
    report_html_write(r, &none, &html);
    report_md_write(r, &none, &md);
    page_good(html.s);
    has(html.s, "A trail does not verify");
    has(md.s, "A trail does not verify");
    assert_true(strstr(md.s, "A trail does not verify") < strstr(md.s, "| Incident |"));
    report_free(r);
    report_trail_done(&k->trail);
    const char *nowhere[] = {"/nonexistent/trail"};
    assert_int_equal(report_trail_read(&k->trail, &k->scope, nowhere, 1, ""), -1);
    has(k->trail.why, "there is no trail");
    k->trail.from_bus = true;
    r = kit_report(k);
    html.n = md.n = 0;
    report_html_write(r, &none, &html);
    report_md_write(r, &none, &md);
    page_good(html.s);
    has(html.s, "No proofs yet");
    has(md.s, "No proofs yet");
    report_free(r);
    free(html.s);
    free(md.s);
}

/* ---- hostile and huge ---- */

static void test_hostile(void **state)
{
    struct kit *k = *state;
    static const char evil[] =
        "</td><script>alert(1)</script>|`x`\n# H\n<!-- end of lessons -->\x1b[2J\xe2\x80\xae\xff"
        "<img src=x onerror=alert(1)> [a](javascript:alert(1)) \"' onload='x";
    kit_hostile(k, evil);
    struct report *r = kit_report(k);
    struct report_text md = {0}, html = {0}, proofs = {0};
    struct report_kept kept = {.lessons = evil, .follow_ups = evil};
    report_html_write(r, &kept, &html);
    kept = (struct report_kept){0};
    report_md_write(r, &kept, &md);
    report_proofs_write(r, &proofs);
    has_not(html.s, "<script");
    has_not(html.s, "<img");
    has_not(html.s, "\x1b");
    has_not(html.s, "\xff");
    has_not(html.s, "\xe2\x80\xae");
    has_not(html.s, "' onload=");
    has_not(md.s, "<script");
    has_not(md.s, "<img");
    has_not(md.s, "\n# H");
    has_not(md.s, "\x1b");
    has_not(md.s, "[a](");
    assert_int_equal(count(md.s, REPORT_LESSONS_END), 1);
    assert_int_equal(count(html.s, "<table"), count(html.s, "</table>"));
    assert_int_equal(count(html.s, "<td"), count(html.s, "</td>"));
    json_t *j = json_loads(proofs.s, 0, NULL);
    assert_non_null(j);
    json_decref(j);
    page_good(html.s);
    kit_keep_file("hostile.html", html.s);
    report_free(r);
    free(md.s);
    free(html.s);
    free(proofs.s);
}

static void test_huge(void **state)
{
    struct kit *k = *state;
    const bool slow = getenv("VALGRIND") != NULL;
    kit_huge(k, 500, slow ? 600 : 5000);
    int64_t began = clock_mono_ms();
    struct report *r = kit_report(k);
    struct report_text md = {0}, html = {0};
    struct report_kept none = {0};
    report_md_write(r, &none, &md);
    report_html_write(r, &none, &html);
    printf("    %zu lines, %zu left out: %zu bytes of Markdown, %zu of HTML in %d ms\n", k->trail.n,
           (size_t)k->trail.left_out, md.n, html.n, (int)(clock_mono_ms() - began));
    assert_true(k->trail.n <= REPORT_LINES_MAX);
    assert_int_equal(k->trail.n + k->trail.left_out, slow ? 600 : 5000);
    if (!slow) {
        assert_true(k->trail.left_out > 0);
        has(html.s, "more records are not listed");
        has(md.s, "more records are not listed");
    }
    assert_true(html.n < 8u * 1024 * 1024);
    assert_true(md.n < 4u * 1024 * 1024);
    assert_true(count(html.s, "<path class=\"c-") == 3); /* many agents are counted, not drawn one by one */
    assert_int_equal(r->n_agents, 500);
    page_good(html.s);
    kit_keep_file("huge.html", html.s);
    report_free(r);
    free(md.s);
    free(html.s);
}

/* ---- files ---- */

static void replace(struct kit *k, const char *name, const char *what, const char *with)
{
    char *text = kit_file(k, name);
    char *at = strstr(text, what);
    if (!at)
        fail_msg("%s: no `%s`", name, what);
    struct report_text t = {0};
    report_add_n(&t, text, (size_t)(at - text));
    report_add(&t, with);
    report_add(&t, at + strlen(what));
    kit_write(k, name, t.s);
    free(text);
    free(t.s);
}

static void write_files(struct kit *k, struct report_files *f)
{
    struct report *r = kit_report(k);
    struct err e = {""};
    char dir[300];
    snprintf(dir, sizeof dir, "%s/reports", k->dir);
    *f = (struct report_files){.dir = dir, .name = "inc-1"};
    if (report_files_write(f, r, &e))
        fail_msg("%s", e.text);
    f->dir = NULL;
    report_free(r);
}

static void test_files(void **state)
{
    struct kit *k = *state;
    struct report_files f;
    kit_story(k);
    write_files(k, &f);
    assert_false(f.kept);
    assert_string_equal(f.aside, "");
    char *first = kit_file(k, "reports/inc-1.md"), *text;
    has(first, "What went well");
    /* Written again, nothing was touched: nothing is put aside. */
    write_files(k, &f);
    assert_false(f.kept);
    assert_string_equal(f.aside, "");
    /* Lessons are filled in: kept, now and every time after, while the rest is renewed. */
    replace(k, "reports/inc-1.md", "- What went well, and should stay as it is?\n",
            "- The <queue> held & nothing was lost.\n");
    k->doc.owner = (char *)"bea";
    for (int i = 0; i < 2; i++) {
        write_files(k, &f);
        assert_true(f.kept);
        assert_string_equal(f.aside, "");
        text = kit_file(k, "reports/inc-1.md");
        has(text, "- The <queue> held & nothing was lost.\n");
        has_not(text, "What went well");
        has(text, "What went wrong");
        has(text, "| Owner | bea |");
        assert_int_equal(count(text, REPORT_LESSONS_BEGIN), 1);
        free(text);
    }
    text = kit_file(k, "reports/inc-1.html");
    has(text, "The &lt;queue&gt; held &amp; nothing was lost.");
    free(text);
    /* Follow-ups too, by an editor that writes its own line ends. */
    replace(k, "reports/inc-1.md", "|  |  |  |  |\n", "| second provider | bea | May |  |\r\n");
    write_files(k, &f);
    text = kit_file(k, "reports/inc-1.md");
    has(text, "| second provider | bea | May |  |");
    has(text, "The <queue> held");
    free(text);
    /* Something else was edited: that version is kept whole beside it. */
    replace(k, "reports/inc-1.md", "## Impact", "## Impact (much less than feared)");
    write_files(k, &f);
    assert_string_equal(f.aside, "inc-1.edited-1.md");
    text = kit_file(k, "reports/inc-1.edited-1.md");
    has(text, "much less than feared");
    has(text, "The <queue> held");
    free(text);
    text = kit_file(k, "reports/inc-1.md");
    has_not(text, "much less than feared");
    has(text, "The <queue> held");
    free(text);
    /* The marks are gone: nothing can be told apart, so all of it is put aside. */
    kit_write(k, "reports/inc-1.md", "mine\n");
    write_files(k, &f);
    assert_string_equal(f.aside, "inc-1.edited-2.md");
    text = kit_file(k, "reports/inc-1.edited-2.md");
    assert_string_equal(text, "mine\n");
    free(text);
    free(first);
    /* Nothing half-written stays. */
    char cmd[400];
    snprintf(cmd, sizeof cmd, "test -z \"$(ls -A '%s/reports' | grep '[.]new$')\"", k->dir);
    assert_int_equal(system(cmd), 0);
    struct err e = {""};
    assert_int_equal(report_file_write("/proc/nonexistent", "a", ".md", "x", 1, &e), -1);
    has(e.text, "/proc/nonexistent");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_scope),
        cmocka_unit_test_setup_teardown(test_story, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_trouble, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_hostile, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_huge, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_files, kit_setup, kit_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
