/* test_continuity_reports.c - reports that write themselves: without a trail first, with proofs when it can be read; what people wrote stays; months. */
#include "continuity_kit.h"

#include "audit/audit_proof.h"
#include "continuity/availability.h"
#include <jansson.h>

struct place {
    struct kit *k;
    char dir[800], id[40];
};

static char *file(const struct place *p, const char *name)
{
    char path[1000];
    snprintf(path, sizeof path, "%s/%s", p->dir, name);
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    char *text = NULL;
    size_t n = 0, room = 0;
    do {
        room += 65536;
        text = realloc(text, room + 1);
        assert_non_null(text);
        n += fread(text + n, 1, room - n, f);
    } while (n == room);
    text[n] = 0;
    fclose(f);
    return text;
}

static bool holds(const struct place *p, const char *name, const char *what)
{
    char *text = file(p, name);
    bool found = text && strstr(text, what);
    free(text);
    return found;
}

static const char *named(const struct place *p, const char *ending)
{
    static char buf[4][96];
    static int i;
    i = (i + 1) % 4;
    snprintf(buf[i], sizeof buf[i], "%s%s", p->id, ending);
    return buf[i];
}

static int ask_report(struct place *p, const char *incident, const char *month)
{
    PB(ContinuityCommand) cmd = PB_INIT(CONTINUITY_COMMAND);
    cmd.incident = (char *)incident;
    cmd.name = (char *)month;
    return kit_ask(p->k, "report", &cmd);
}

/* A record of the fallback service, as the audit service would put it into its trail. */
static void record(struct kit *k, const char *agent, const char *posture)
{
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    PB(Label) label = PB_INIT(LABEL), *list[] = {&label};
    char id[48];
    snprintf(id, sizeof id, "rec-%" PRIu64, ++k->epoch);
    label.key = (char *)"posture";
    label.value = (char *)posture;
    r.id = id;
    r.at_unix_ms = clock_wall_ms();
    r.at_mono_ns = clock_mono_ns();
    r.service = r.actor = (char *)"fallback";
    r.instance = (char *)"kit";
    r.audit_class = E(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY);
    r.action = (char *)"directive.issued";
    r.subject = (char *)agent;
    r.outcome = E(AUDIT_OUTCOME__AUDIT_OUTCOME_DONE);
    r.detail = (char *)posture;
    r.fields = list;
    r.n_fields = 1;
    kit_say(k, SUBJECT_AUDIT, "fallback", &r);
}

/* What was known of last month when the service was off over its end. */
static uint32_t last_month(struct kit *k)
{
    uint32_t month = availability_month_of(clock_wall_ms());
    month = month % 100 == 1 ? month - 100 + 11 : month - 1;
    PB(AvailabilityMonth) m = PB_INIT(AVAILABILITY_MONTH), *months[] = {&m};
    PB(AvailabilityState) a = PB_INIT(AVAILABILITY_STATE);
    m.month = month;
    m.known_ms = 86400000;
    m.full_ms = 864000;
    m.incidents = 1;
    a.agent = (char *)"a000";
    a.revision = a.fence = 1;
    a.known_unix_ms = availability_month_start(month + 1) - 86400000;
    a.since_unix_ms = a.known_unix_ms;
    a.months = months;
    a.n_months = 1;
    kit_say(k, SUBJECT_CONTINUITY_AGENT, "a000", &a);
    return month;
}

static size_t check_proofs(const struct place *p)
{
    char *text = file(p, named(p, ".proofs.json"));
    json_t *all = text ? json_loads(text, 0, NULL) : NULL, *list = json_object_get(all, "proofs"), *one;
    size_t i, n = json_array_size(list);
    assert_non_null(all);
    json_array_foreach(list, i, one)
    {
        struct audit_proof proof;
        struct err e = {""};
        char *json = json_dumps(json_object_get(one, "proof"), 0);
        assert_non_null(json);
        if (audit_proof_check(json, strlen(json), NULL, &proof, &e))
            fail_msg("%s", e.text);
        free(proof.stored);
        free(json);
    }
    json_decref(all);
    free(text);
    return n;
}

static bool over(struct place *p)
{
    PB(IncidentChanged) *d = kit_incident(p->k, p->id);
    return d && d->validated_unix_ms && *d->report;
}

static bool renewed(struct place *p)
{
    return ask_report(p, p->id, "") == STATUS(OK) && !holds(p, named(p, ".md"), "No proofs yet") &&
           !holds(p, named(p, ".md"), "not covered by a signed checkpoint");
}

static void test_story(void **state)
{
    (void)state;
    struct place p = {.k = kit_new("", "")};
    struct kit *k = p.k;
    char continuity[1200], program[700], month[8], name[64], trail[700], audit[700];
    snprintf(p.dir, sizeof p.dir, "%s/reports", k->base);
    snprintf(trail, sizeof trail, "%s/trail", k->base);
    snprintf(audit, sizeof audit, "%s/data/audit", k->base);
    snprintf(continuity, sizeof continuity,
             "  phases: { settle: 50ms, validate: 100ms, closes_itself: none }\n"
             "  reports: { dir: \"%s\", trail: [ \"%s\" ] }\n",
             p.dir, trail);
    kit_configure(k, continuity, "audit: { checkpoint: 200ms }\n");
    uint32_t last = last_month(k);
    KIT_UNTIL(k, k->stored == k->to_store);
    kit_hear(k);
    snprintf(program, sizeof program, "%.580s", k->program);
    memcpy(strrchr(program, '/'), "/redoubt-audit", sizeof "/redoubt-audit");
    (void)harness_run(k->h, "audit", 0, (const char *const[]){program, "-c", k->conf, NULL});
    kit_start(k, 0);
    KIT_UNTIL(k, k->beats > 0);

    /* The month that ended while nobody was there. */
    snprintf(name, sizeof name, "availability-%u-%02u.md", last / 100, last % 100);
    KIT_UNTIL(k, holds(&p, name, "99.0000 %"));

    /* An outage from first evidence to its report; the trail cannot be read yet. */
    kit_directive(k, "a000", (struct kit_position){.llm_index = 1});
    record(k, "a000", "BACKUP_LLM");
    record(k, "a001", "BACKUP_LLM"); /* of no concern */
    KIT_UNTIL(k, kit_open(k, "llm.openai"));
    snprintf(p.id, sizeof p.id, "%.39s", kit_open(k, "llm.openai")->id);
    snprintf(name, sizeof name, "continuity/incident/%s", p.id);
    kit_delivered(k, name);
    KIT_UNTIL(k, k->stored == k->to_store);
    kit_directive(k, "a000", (struct kit_position){.llm_index = 0});
    record(k, "a000", "NORMAL");
    KIT_UNTIL(k, over(&p));
    assert_string_equal(kit_incident(k, p.id)->report, p.id);
    assert_true(holds(&p, named(&p, ".md"), "No proofs yet"));
    assert_true(holds(&p, named(&p, ".md"), "directive.issued | a000 |"));
    assert_false(holds(&p, named(&p, ".md"), "directive.issued | a001 |"));
    assert_true(holds(&p, named(&p, ".md"), "| pager | accepted |"));
    assert_int_equal(check_proofs(&p), 0);

    /* A person writes the lesson. */
    char path[1000], *text = file(&p, named(&p, ".md"));
    const char *mark = "- What went well, and should stay as it is?";
    char *at = strstr(text, mark);
    assert_non_null(at);
    snprintf(path, sizeof path, "%s/%s", p.dir, named(&p, ".md"));
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fprintf(f, "%.*s- The backup model was warm.%s", (int)(at - text), text, at + strlen(mark));
    fclose(f);
    free(text);

    /* The trail comes in reach: proofs for all of it, and the lesson stands. */
    assert_int_equal(symlink(audit, trail), 0);
    KIT_UNTIL(k, renewed(&p));
    assert_true(check_proofs(&p) >= 2);
    assert_true(holds(&p, named(&p, ".md"), "- The backup model was warm."));
    assert_true(holds(&p, named(&p, ".html"), "- The backup model was warm."));
    assert_true(holds(&p, named(&p, ".html"), "redoubt-audit-proof/1"));

    /* By order: this month so far; what is not there is refused. */
    uint32_t now = availability_month_of(clock_wall_ms());
    snprintf(month, sizeof month, "%04u-%02u", now / 100 % 10000, now % 100);
    assert_int_equal(ask_report(&p, "", month), STATUS(OK));
    snprintf(name, sizeof name, "availability-%s.md", month);
    assert_true(holds(&p, name, "The month is not over"));
    snprintf(name, sizeof name, "availability-%s.csv", month);
    assert_true(holds(&p, name, "\"a000\","));
    assert_int_equal(ask_report(&p, "", "2026-13"), STATUS(INVALID));
    assert_int_equal(ask_report(&p, "", "1999-01"), STATUS(UNAVAILABLE));
    assert_int_equal(ask_report(&p, "no-such-incident", ""), STATUS(INVALID));
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_story)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
