/* report_month.h - the availability report of a month over all agents: figures, Markdown, HTML and CSV. Pure but for memory. */
#ifndef REDOUBT_CONTINUITY_REPORT_MONTH_H
#define REDOUBT_CONTINUITY_REPORT_MONTH_H

#include "common/settings.h"
#include "common/wire.h"
#include "continuity/availability.h"
#include "continuity/report_text.h"

#define MONTH_AGENTS_SHOWN    500
#define MONTH_INCIDENTS_SHOWN 200
#define MONTH_BARS            15

struct month_agent {
    char name[65];
    struct availability_month m;
};
struct month_incident {
    char id[33], summary[160];
    int kind, severity;
    bool drill;
    int64_t evidence_ms, validated_ms; /* 0 = not yet */
    uint32_t agents;
    uint32_t breached; /* clocks */
};
/* Clocks of this month's incidents, drills included: each has shown how long it takes. */
struct month_objective {
    uint32_t clocks, running, breached;
    int64_t worst_ms, worst_limit_ms;
};
struct month_backup {
    char source[65], error[128];
    int kind;
    int64_t verified_ms, tested_ms, test_took_ms;
    uint32_t failures;
    bool suspicious;
};
struct month_drill {
    char name[65], result[128];
    int64_t ended_ms;
    bool passed;
};
struct report_month {
    uint32_t month; /* 202611 */
    int64_t from_ms, to_ms, written_ms;
    bool partial; /* it is not over */
    char leader[129];
    struct month_agent *agents; /* report_month_settle: the least available first */
    size_t n_agents;
    struct month_incident *incidents; /* by time; of this month's first evidence, or open in it */
    size_t n_incidents;
    struct month_objective objectives[SET_OBJECTIVES];
    struct month_backup *backups; /* as they stand when it is written */
    size_t n_backups;
    struct month_drill *drills; /* that ended in the month */
    size_t n_drills;
    /* made by report_month_settle */
    struct availability_month sum;
    uint32_t n_real, n_drill, n_repaired;
    int64_t mttr_ms, mtbf_ms; /* -1 = nothing to say */
    uint8_t worst_of_day[31]; /* severity of the incidents that were open, drills left out; 0 = none */
    uint16_t incidents_of_day[31];
    int days;
};
bool report_month_add(struct report_month *m, const char *agent, const struct availability_month *a);
/* Taken if it was open in the month. */
bool report_month_incident(struct report_month *m, const PB(IncidentChanged) * d);
bool report_month_backup(struct report_month *m, const PB(BackupState) * b);
bool report_month_drill(struct report_month *m, const PB(DrillState) * d);
void report_month_settle(struct report_month *m);
void report_month_done(struct report_month *m);

void report_month_md(const struct report_month *m, struct report_text *out);
void report_month_html(const struct report_month *m, struct report_text *out);
void report_month_csv(const struct report_month *m, struct report_text *out);
/* `November 2026`; `99.9871 %`. */
const char *report_month_name(uint32_t month, char buf[static 32]);
const char *report_share(const struct availability_month *m, bool full_function, char buf[static 32]);
const char *report_backup_kind(int kind);

#endif
