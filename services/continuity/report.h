/* report.h - an incident's report, put together from its document, its records and its receipts: pure. report_md.c and report_html.c write it down. */
#ifndef REDOUBT_CONTINUITY_REPORT_H
#define REDOUBT_CONTINUITY_REPORT_H

#include "continuity/report_text.h"
#include "continuity/report_trail.h"

#define REPORT_TOLD_MAX   300
#define REPORT_AGENTS_MAX 500 /* that are listed */
#define REPORT_NAME_MAX   129

struct report_function {
    const char *name;
    bool critical;
    unsigned lost_in; /* conditions */
};
/* Everything is the caller's, and stays while the report is used. */
struct report_input {
    const PB(IncidentChanged) * doc;
    const char *const *agents; /* in order of strcmp, all that are known */
    size_t n_agents;
    const struct report_trail *trail;
    const PB(DeliveryReceipt) *const *receipts; /* as heard; those of the trail count first */
    size_t n_receipts;
    const struct report_function *functions;
    size_t n_functions;
    const char *leader; /* the replica that writes */
    int64_t written_ms;
};

struct report_agent {
    const char *name;
    uint32_t index;                       /* in report_input */
    int64_t full_ms, degraded_ms, llm_ms; /* an agent in several conditions counts once, for the worst */
    unsigned seen;                        /* conditions */
    struct report_tally tally;
};
struct report_span { /* of one agent */
    uint32_t agent;
    unsigned condition; /* the worst bit alone */
    int64_t from_ms, to_ms;
};
struct report_told {
    int64_t at_ms;
    bool accepted;      /* a channel took it: people were told */
    const char *result; /* accepted, failed, muted, ... */
    const char *severity, *channel, *kind, *key, *summary, *answer;
};
struct report_finding {
    bool good;
    uint64_t n;
    int64_t first_ms;
    bool more; /* some are not listed, and not counted here */
    const char *words;
    char example[200]; /* cleaned nowhere yet */
};
struct report {
    const struct report_input *in;
    int64_t begin_ms, end_ms; /* what the chart shows */
    int64_t over_ms;          /* when it was over, or when this was written */
    bool running;
    struct report_agent *agents; /* the most affected first */
    size_t n_agents;
    struct report_agent sum;
    struct report_span *spans; /* by agent and time; agent is an index of in->agents */
    size_t n_spans;
    struct report_told *told; /* by time */
    size_t n_told;
    uint64_t told_left_out;
    int64_t first_told_ms; /* 0 = nobody was */
    struct report_finding findings[64];
    size_t n_findings;
    bool lost[32]; /* functions, by index */
    size_t n_breached, n_clocks;
};
/* NULL = memory is out. */
struct report *report_make(const struct report_input *in);
void report_free(struct report *r);

/* Words: `LLM outage`, `critical`, `Validate`, `MAD, LLM fallback`. */
const char *report_kind_words(int failure_kind);
const char *report_severity_words(int severity);
const char *report_phase_words(int phase);
const char *report_objective_words(const char *objective);
const char *report_objective_brief(const char *objective);
const char *report_condition_words(unsigned condition);
/* A record of the trail as one line for people, neither cleaned nor escaped. */
const char *report_line_words(const PB(AuditRecord) * r, char buf[static 1024]);
/* What it says of how the incident was met; NULL = nothing. */
const char *report_finding_words(const PB(AuditRecord) * r, bool *ret_good);
unsigned report_worst(unsigned condition);

/* ---- written down ---- */

/* What people fill in stands between these lines and is kept when the report is written again (report_file.h). NULL = the empty form. */
struct report_kept {
    const char *lessons, *follow_ups;
};
#define REPORT_LESSONS_BEGIN    "<!-- lessons: write here; what stands between these lines is kept -->"
#define REPORT_LESSONS_END      "<!-- end of lessons -->"
#define REPORT_FOLLOW_UPS_BEGIN "<!-- follow-ups: write here; what stands between these lines is kept -->"
#define REPORT_FOLLOW_UPS_END   "<!-- end of follow-ups -->"
extern const char report_lessons_form[], report_follow_ups_form[];

void report_md_write(const struct report *r, const struct report_kept *kept, struct report_text *out);
void report_html_write(const struct report *r, const struct report_kept *kept, struct report_text *out);
/* All proofs, one JSON document. */
void report_proofs_write(const struct report *r, struct report_text *out);
/* The chart, as SVG for report_html_write. */
void report_chart_write(const struct report *r, struct report_text *out);
/* The style that reports share. */
extern const char report_style[];

#endif
