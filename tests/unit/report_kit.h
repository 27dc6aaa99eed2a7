/* report_kit.h - an incident with a real audit trail, for tests of reports. KEEP_REPORTS=DIR leaves the pages there, to be looked at. */
#ifndef REDOUBT_TESTS_REPORT_KIT_H
#define REDOUBT_TESTS_REPORT_KIT_H

#define KIT_T0    INT64_C(1796000000000) /* first evidence */
#define KIT_NOTES 6

struct kit {
    char dir[128];
    struct loop loop;
    struct audit_log *log;
    size_t out;
    bool idle;
    int64_t t0;
    PB(IncidentChanged) doc;
    PB(ObjectiveClock) clocks[4], *clock_list[4];
    PB(IncidentPhaseTime) phases[6], *phase_list[6];
    PB(IncidentNote) notes[KIT_NOTES], *note_list[KIT_NOTES];
    const char **agents;
    char *agent_text;
    size_t n_agents;
    struct report_scope scope;
    struct report_trail trail;
    struct report_input in;
};

static const struct report_function kit_functions[] = {
    {"threat_detection", true, 1}, {"blocking", true, 1 | 2}, {"learning", false, 1 | 2 | 4}};

/* ---- the trail ---- */

static void kit_came(struct kit *k)
{
    k->idle = --k->out == 0;
}

static void kit_on_append(void *ctx, uint64_t seq, const char *error)
{
    (void)error;
    assert_true(seq > 0);
    kit_came(ctx);
}

static void kit_on_closed(void *ctx)
{
    kit_came(ctx);
}

static void kit_wait(struct kit *k)
{
    k->idle = k->out == 0;
    assert_true(k->idle || loop_run_until(&k->loop, &k->idle, 30000));
}

static void kit_open(struct kit *k)
{
    struct audit_log_found found;
    struct err e = {""};
    char dir[200];
    snprintf(dir, sizeof dir, "%s/audit/0", k->dir);
    assert_int_equal(report_file_dir(dir, &e), 0);
    struct audit_log_opts o = {.dir = dir, .segment_bytes = 65536};
    k->log = audit_log_open(&k->loop, &o, &found, &e);
    assert_non_null(k->log);
}

static void kit_close(struct kit *k)
{
    k->out++;
    audit_log_close(k->log, kit_on_closed, k);
    kit_wait(k);
    k->log = NULL;
}

/* fields: "key=value;key=value" */
static void kit_record(struct kit *k, int64_t after_ms, const char *service, const char *action, const char *subject,
                       int outcome, const char *actor, const char *detail, const char *fields)
{
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    PB(Label) labels[12], *list[12];
    char id[48], copy[2048], *save = NULL;
    static unsigned n;
    snprintf(id, sizeof id, "r-%u", ++n);
    snprintf(copy, sizeof copy, "%s", fields);
    for (char *at = strtok_r(copy, ";", &save); at; at = strtok_r(NULL, ";", &save)) {
        char *equals = strchr(at, '=');
        assert_non_null(equals);
        *equals = 0;
        labels[r.n_fields] = (PB(Label))PB_INIT(LABEL);
        labels[r.n_fields].key = at;
        labels[r.n_fields].value = equals + 1;
        list[r.n_fields] = &labels[r.n_fields];
        r.n_fields++;
    }
    r.id = id;
    r.at_unix_ms = k->t0 + after_ms;
    r.at_mono_ns = n;
    r.service = (char *)service;
    r.instance = (char *)"host-1";
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY;
    r.action = (char *)action;
    r.actor = (char *)(*actor ? actor : service);
    r.subject = (char *)subject;
    r.outcome = (Redoubt__V1__AuditOutcome)outcome;
    r.detail = (char *)detail;
    r.fields = list;
    struct err e = {""};
    size_t len = 0;
    void *packed = wire_pack(&r, &len, &e);
    if (!packed)
        fail_msg("%s", e.text);
    k->out++;
    audit_log_append(k->log, packed, len, kit_on_append, k);
    free(packed);
    if (k->out > 500)
        kit_wait(k);
}

/* ---- the document ---- */

static void kit_clock(struct kit *k, size_t i, const char *objective, int64_t limit_ms, int64_t from, int64_t to)
{
    PB(ObjectiveClock) *c = &k->clocks[i];
    *c = (PB(ObjectiveClock))PB_INIT(OBJECTIVE_CLOCK);
    c->objective = (char *)objective;
    c->limit_ms = (uint64_t)limit_ms;
    c->elapsed_ms = (uint64_t)(to - from);
    c->started_unix_ms = k->t0 + from;
    c->stopped_unix_ms = k->t0 + to;
    c->breached = to - from > limit_ms;
    c->agent = (char *)"mcp-1";
    k->clock_list[i] = c;
    k->doc.n_clocks = i + 1;
}

static void kit_phase(struct kit *k, int phase, int64_t from, int64_t to, const char *why, bool overdue)
{
    size_t i = k->doc.n_phases++;
    k->phases[i] = (PB(IncidentPhaseTime))PB_INIT(INCIDENT_PHASE_TIME);
    k->phases[i].phase = (Redoubt__V1__IncidentPhase)phase;
    k->phases[i].entered_unix_ms = k->t0 + from;
    k->phases[i].left_unix_ms = to ? k->t0 + to : 0;
    k->phases[i].left_by = (char *)(to ? "continuity" : "");
    k->phases[i].why = (char *)why;
    k->phases[i].overdue = overdue;
    k->phase_list[i] = &k->phases[i];
}

static void kit_note(struct kit *k, int kind, int64_t at, const char *by, const char *text)
{
    size_t i = k->doc.n_notes++;
    k->notes[i] = (PB(IncidentNote))PB_INIT(INCIDENT_NOTE);
    k->notes[i].kind = (Redoubt__V1__IncidentNoteKind)kind;
    k->notes[i].at_unix_ms = k->t0 + at;
    k->notes[i].by = (char *)by;
    k->notes[i].text = (char *)text;
    k->note_list[i] = &k->notes[i];
}

static void kit_doc(struct kit *k, size_t n_agents)
{
    k->t0 = KIT_T0;
    k->doc = (PB(IncidentChanged))PB_INIT(INCIDENT_CHANGED);
    k->doc.id = (char *)"inc-1";
    k->doc.epoch = 9;
    k->doc.phase = REDOUBT__V1__INCIDENT_PHASE__INCIDENT_PHASE_LEARN;
    k->doc.failure_kind = REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE;
    k->doc.severity = REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL;
    k->doc.key = (char *)"llm.openai";
    k->doc.cause = (char *)"llm.openai.gpt-4o";
    k->doc.summary = (char *)"OpenAI is away: agents run on backup models and in security fallback";
    k->doc.owner = (char *)"ana";
    k->doc.evidence_unix_ms = k->t0;
    k->doc.recovered_unix_ms = k->t0 + 662000;
    k->doc.validated_unix_ms = k->t0 + 1000000;
    k->doc.agents_total = (uint32_t)n_agents;
    k->doc.clocks = k->clock_list;
    k->doc.phases = k->phase_list;
    k->doc.notes = k->note_list;
    kit_clock(k, 0, "mad_llm_fallback", 3600000, 2000, 1000000);
    kit_clock(k, 1, "mad_full", 14400000, 30000, 1000000);
    kit_clock(k, 2, "rto_critical", 900000, 62000, 1000000);
    kit_clock(k, 3, "rto_full", 7200000, 2000, 1000000);
    kit_phase(k, 1, 0, 6000, "slack has accepted its alert", false);
    kit_phase(k, 2, 6000, 96000, "nothing joined for 30 s", false);
    kit_phase(k, 3, 96000, 662000, "no open signals", true);
    kit_phase(k, 4, 662000, 1000000, "well for 60 s, self-tests passed", false);
    kit_phase(k, 5, 1000000, 0, "", false);
    k->scope = (struct report_scope){.id = "inc-1",
                                     .agents = k->agents,
                                     .n_agents = k->n_agents,
                                     .target = "llm.openai",
                                     .cause = "llm.openai.gpt-4o",
                                     .from_ms = k->t0 - 120000,
                                     .to_ms = k->t0 + 1120000};
    k->in = (struct report_input){.doc = &k->doc,
                                  .agents = k->agents,
                                  .n_agents = k->n_agents,
                                  .trail = &k->trail,
                                  .functions = kit_functions,
                                  .n_functions = 3,
                                  .leader = "host-1-continuity-0",
                                  .written_ms = k->t0 + 1001000};
}

static void kit_read(struct kit *k)
{
    char dir[200];
    snprintf(dir, sizeof dir, "%s/audit", k->dir);
    const char *dirs[] = {dir};
    if (report_trail_read(&k->trail, &k->scope, dirs, 1, ""))
        fail_msg("%s", k->trail.why);
}

static void kit_agents(struct kit *k, size_t n, const char *const *names)
{
    k->agents = calloc(n, sizeof *k->agents);
    k->agent_text = calloc(n, 32);
    assert_non_null(k->agents);
    assert_non_null(k->agent_text);
    for (size_t i = 0; i < n; i++) {
        char *at = k->agent_text + 32 * i;
        if (names)
            snprintf(at, 32, "%s", names[i]);
        else
            snprintf(at, 32, "agent-%03zu", i);
        k->agents[i] = at;
    }
    k->n_agents = n;
}

#define KIT_DONE     2
#define KIT_INTENDED 1
#define KIT_FAILED   3
#define KIT_REFUSED  4

/* One afternoon: a provider goes, one agent is moved to a backup and then to security fallback, another stays on its backup, a third one's process goes. */
static void kit_story(struct kit *k)
{
    static const char *const names[] = {"mcp-1", "mcp-2", "scout"};
    kit_agents(k, 3, names);
    kit_doc(k, 3);
    kit_note(k, 1, 120000, "ana", "The provider's status page says: elevated error rates.");
    kit_note(k, 2, 200000, "ana",
             "We stay on security fallback until their all-clear; blocking by hand in the meantime.");
    kit_note(k, 3, 1100000, "bea", "Keep a second provider warm for each agent.");
    kit_note(k, 4, 1105000, "bea", "Order a key for the second provider.");
    kit_open(k);
    kit_record(k, -200000, "health", "health.healthy", "llm.openai.gpt-4o", KIT_DONE, "", "too early for this report",
               "");
    kit_record(k, -60000, "guard", "action.done", "mcp-1", KIT_DONE, "mcp-1", "", "action=block_ip;key=k-0");
    kit_record(k, 0, "breaker", "breaker.open", "llm.openai.gpt-4o", KIT_DONE, "", "12 of 14 calls failed: HTTP 503",
               "reason=FAILURES;previous=CLOSED");
    kit_record(k, 1000, "continuity", "incident.opened", "inc-1", KIT_DONE, "", "LLM outage: llm.openai.gpt-4o", "");
    kit_record(k, 2000, "fallback", "directive.issued", "mcp-1", KIT_DONE, "",
               "SWITCH_LLM, be BACKUP_LLM: llm.openai.gpt-4o is away",
               "posture=BACKUP_LLM;llm_index=1;cause=llm.openai.gpt-4o");
    kit_record(k, 2000, "fallback", "directive.issued", "mcp-2", KIT_DONE, "",
               "SWITCH_LLM, be BACKUP_LLM: llm.openai.gpt-4o is away",
               "posture=BACKUP_LLM;llm_index=1;cause=llm.openai.gpt-4o");
    kit_record(k, 4000, "alert", "alert.channel_failed", "al-1", KIT_FAILED, "", "mcp-1 uses backup LLM",
               "channel=mail;channel_kind=email;severity=WARNING;dedup_key=agent/mcp-1/backup-llm;answer=421 try "
               "again later");
    kit_record(k, 6000, "alert", "alert.delivered", "al-1", KIT_DONE, "", "mcp-1 uses backup LLM",
               "channel=slack;channel_kind=slack;severity=WARNING;dedup_key=agent/mcp-1/backup-llm;answer=200 ok");
    kit_record(k, 30000, "health", "health.unhealthy", "agent.scout", KIT_DONE, "", "no heartbeat for 30 s",
               "previous=HEALTHY;failure=AGENT_DOWN");
    kit_record(k, 62000, "fallback", "override.activate", "mcp-1", KIT_INTENDED, "", "one hour, as no LLM is left",
               "posture=SECURITY_FALLBACK");
    kit_record(k, 62000, "fallback", "directive.issued", "mcp-1", KIT_DONE, "",
               "SECURITY_FALLBACK, be SECURITY_FALLBACK: no model of the chain answers",
               "posture=SECURITY_FALLBACK;llm_index=-1;cause=llm.openai.gpt-4o");
    kit_record(k, 62400, "fallback", "override.activate", "mcp-1", KIT_DONE, "", "HTTP 200, until 15:07",
               "posture=SECURITY_FALLBACK");
    kit_record(k, 63000, "alert", "alert.delivered", "al-2", KIT_DONE, "", "mcp-1 is in security fallback",
               "channel=slack;channel_kind=slack;severity=HIGH;dedup_key=agent/mcp-1/security;answer=200 ok");
    for (int i = 0; i < 4; i++) {
        char fields[64];
        snprintf(fields, sizeof fields, "action=block_ip;key=k-%d", i + 1);
        kit_record(k, 70000 + i * 40000, "guard", "action.queued", "mcp-1", KIT_INTENDED, "mcp-1", "", fields);
        kit_record(k, 70010 + i * 40000, "guard", "action.queued", "mcp-1", KIT_DONE, "mcp-1", "", fields);
        kit_record(k, 670000 + i * 1000, "guard", "action.replayed", "mcp-1", KIT_INTENDED, "mcp-1", "", fields);
        if (i)
            kit_record(k, 670100 + i * 1000, "guard", "action.done", "mcp-1", KIT_DONE, "mcp-1", "", fields);
    }
    kit_record(k, 90000, "guard", "action.refused", "mcp-1", KIT_REFUSED, "mcp-1",
               "not on the allow list of SECURITY_FALLBACK", "action=open_port;key=k-9;reason=NOT_ALLOWED");
    kit_record(k, 150000, "health", "health.healthy", "agent.scout", KIT_DONE, "", "heartbeats again",
               "previous=UNHEALTHY;failure=UNSPECIFIED");
    kit_record(k, 300000, "guard", "action.done", "mcp-9", KIT_DONE, "mcp-9", "", "action=block_ip;key=other");
    kit_record(k, 660000, "breaker", "breaker.closed", "llm.openai.gpt-4o", KIT_DONE, "", "probation passed",
               "reason=RECOVERED;previous=PROBATION");
    kit_record(k, 662000, "fallback", "directive.issued", "mcp-1", KIT_DONE, "",
               "RESTORE_LLM, be NORMAL: the primary is steady", "posture=NORMAL;llm_index=0;cause=");
    kit_record(k, 662000, "fallback", "directive.issued", "mcp-2", KIT_DONE, "",
               "RESTORE_LLM, be NORMAL: the primary is steady", "posture=NORMAL;llm_index=0;cause=");
    kit_record(k, 663000, "fallback", "override.release", "mcp-1", KIT_DONE, "", "HTTP 200", "posture=NORMAL");
    kit_record(k, 674000, "guard", "queue.drained", "mcp-1", KIT_DONE, "", "4 replayed, 0 dead", "");
    kit_record(k, 962000, "continuity", "objective.breached", "inc-1", KIT_DONE, "", "rto_critical: 15 min", "");
    kit_record(k, 1000000, "continuity", "incident.phase", "inc-1", KIT_DONE, "", "VALIDATE to LEARN: well for 60 s",
               "");
    kit_wait(k);
    kit_close(k);
    kit_read(k);
}

/* Everything that others can write says this. */
static void kit_hostile(struct kit *k, const char *evil)
{
    static const char *const names[] = {"mcp-1"};
    static char clean[600]; /* the bus lets no bad UTF-8 through */
    size_t n = 0;
    for (const char *at = evil; *at && n + 1 < sizeof clean; at++)
        if (*at != '\xff')
            clean[n++] = *at;
    clean[n] = 0;
    kit_agents(k, 1, names);
    kit_doc(k, 1);
    char *s = (char *)evil;
    k->doc.summary = k->doc.owner = k->doc.cause = k->doc.key = s;
    for (int kind = 0; kind <= 4; kind++)
        kit_note(k, kind, 1000, evil, evil);
    for (size_t i = 0; i < k->doc.n_phases; i++)
        k->phases[i].why = k->phases[i].left_by = s;
    for (size_t i = 0; i < k->doc.n_clocks; i++)
        k->clocks[i].objective = k->clocks[i].agent = s;
    k->in.leader = evil;
    snprintf(k->agent_text, 32, "%.31s", evil); /* wherever a name comes from */
    char fields[1024];
    for (char *at = clean; *at; at++)
        *at = *at == ';' || *at == '=' ? ',' : *at;
    snprintf(fields, sizeof fields,
             "dedup_key=inc-1;channel=%.200s;channel_kind=%.100s;severity=%.100s;answer=%.200s", clean, clean, clean,
             clean);
    char who[64];
    snprintf(who, sizeof who, "%.60s", clean);
    kit_open(k);
    kit_record(k, 10, "alert", "alert.delivered", "inc-1", KIT_DONE, who, clean, fields);
    kit_record(k, 20, "fallback", "directive.issued", "inc-1", KIT_FAILED, who, clean, fields);
    kit_wait(k);
    kit_close(k);
    kit_read(k);
    assert_int_equal(k->trail.n, 2);
}

static void kit_huge(struct kit *k, size_t n_agents, size_t records)
{
    char fields[64];
    kit_agents(k, n_agents, NULL);
    kit_doc(k, n_agents);
    kit_open(k);
    for (size_t i = 0; i < records; i++) {
        const char *agent = k->agents[i % n_agents];
        int64_t at = (int64_t)(i * 900000 / records);
        snprintf(fields, sizeof fields, "action=block_ip;key=k-%zu", i);
        if (i < n_agents)
            kit_record(k, at, "fallback", "directive.issued", agent, KIT_DONE, "", "SWITCH_LLM, be BACKUP_LLM",
                       "posture=BACKUP_LLM");
        else if (i >= records - n_agents / 5)
            kit_record(k, at, "fallback", "directive.issued", agent, KIT_DONE, "", "RESTORE_LLM, be NORMAL",
                       "posture=NORMAL");
        else if (i % 7 == 0)
            kit_record(k, at, "fallback", "directive.issued", agent, KIT_DONE, "", "SECURITY",
                       i % 2 ? "posture=SECURITY_FALLBACK" : "posture=FROZEN");
        else
            kit_record(k, at, "guard", "action.queued", agent, KIT_DONE, agent, "", fields);
    }
    kit_wait(k);
    kit_close(k);
    kit_read(k);
}

/* ---- reports ---- */

static struct report *kit_report(struct kit *k)
{
    struct report *r = report_make(&k->in);
    assert_non_null(r);
    return r;
}

static inline const struct report_agent *kit_agent(const struct report *r, const char *name)
{
    for (size_t i = 0; i < r->n_agents; i++)
        if (strcmp(r->agents[i].name, name) == 0)
            return &r->agents[i];
    fail_msg("no agent %s", name);
    return NULL;
}

static char *kit_file(struct kit *k, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", k->dir, name);
    FILE *f = fopen(path, "re");
    if (!f)
        fail_msg("no %s", path);
    struct report_text t = {0};
    char buf[8192];
    for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0;)
        report_add_n(&t, buf, n);
    fclose(f);
    return t.s;
}

static void kit_write(struct kit *k, const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", k->dir, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void kit_keep_file(const char *name, const char *text)
{
    char path[300];
    const char *dir = getenv("KEEP_REPORTS");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "", name);
    FILE *f = dir ? fopen(path, "we") : NULL;
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

static void kit_keep_example(const char *md, const char *html)
{
    kit_keep_file("example.md", md);
    kit_keep_file("example.html", html);
}

static int kit_setup(void **state)
{
    struct kit *k = calloc(1, sizeof *k);
    const char *tmp = getenv("TMPDIR");
    if (!k || sodium_init() < 0)
        return -1;
    snprintf(k->dir, sizeof k->dir, "%s/redoubt-report-XXXXXX", tmp ? tmp : "/tmp");
    *state = k;
    return mkdtemp(k->dir) && loop_init(&k->loop) == 0 ? 0 : -1;
}

static int kit_teardown(void **state)
{
    struct kit *k = *state;
    char cmd[200];
    report_trail_done(&k->trail);
    loop_done(&k->loop);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", k->dir);
    assert_int_equal(system(cmd), 0);
    free(k->agents);
    free(k->agent_text);
    free(k);
    return 0;
}

#endif
