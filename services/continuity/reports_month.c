/* reports_month.c - what a month's report is made of, and its files. */
#include "continuity/report_file.h"
#include "continuity/reports_impl.h"
#include <stdlib.h>

#define BACKUPS_MAX 64
#define DRILLS_MAX  32

struct gathering {
    struct report_month *m;
    bool failed;
};

static void on_agent(void *ctx, const char *agent, const struct availability_month *a)
{
    struct gathering *g = ctx;
    g->failed = g->failed || !report_month_add(g->m, agent, a);
}

static void incidents(struct gathering *g, struct continuity *c, int64_t now_ms)
{
    struct board *b = continuity_board(c);
    for (struct incident *x = board_next(b, NULL, false); x && !g->failed; x = board_next(b, x, false)) {
        int64_t over = x->validated_ms ? x->validated_ms : x->closed_ms;
        if (x->evidence_ms >= g->m->to_ms || (over && over < g->m->from_ms))
            continue;
        PB(IncidentChanged) *d = board_pack(b, x, now_ms, continuity_fence(c));
        g->failed = !d || !report_month_incident(g->m, d);
        if (d)
            board_pack_done(d);
    }
}

bool reports_month_gather(struct reports *r, struct reports_job *j, struct err *e)
{
    struct continuity *c = r->room;
    struct report_month *m = &j->month;
    struct gathering g = {.m = m};
    const PB(BackupState) * backups[BACKUPS_MAX];
    const PB(DrillState) * drills[DRILLS_MAX];
    *m = (struct report_month){.month = j->due.month,
                               .from_ms = availability_month_start(j->due.month),
                               .to_ms = availability_month_start(j->due.month + 1),
                               .written_ms = j->written_ms};
    m->partial = m->to_ms > m->written_ms;
    snprintf(m->leader, sizeof m->leader, "%s", j->leader);
    continuity_availability(c, j->due.month, on_agent, &g);
    if (m->n_agents == 0 && !g.failed) {
        err_set(e, "nothing is known of %u-%02u: no agent was watched in it", j->due.month / 100, j->due.month % 100);
        return false;
    }
    incidents(&g, c, j->written_ms);
    for (size_t i = 0, n = parts_backups(c, backups, BACKUPS_MAX); i < n && !g.failed; i++)
        g.failed = !report_month_backup(m, backups[i]);
    for (size_t i = 0, n = parts_drills(c, drills, DRILLS_MAX); i < n && !g.failed; i++)
        g.failed = !report_month_drill(m, drills[i]);
    if (g.failed)
        err_set(e, "out of memory for a monthly report");
    return !g.failed;
}

void reports_month_name(uint32_t month, char buf[static 32])
{
    snprintf(buf, 32, "availability-%u-%02u", month / 100, month % 100);
}

void reports_month_work(struct reports_job *j)
{
    struct report_text md = {0}, html = {0}, csv = {0};
    char name[32];
    reports_month_name(j->due.month, name);
    report_month_settle(&j->month);
    report_month_md(&j->month, &md);
    report_month_html(&j->month, &html);
    report_month_csv(&j->month, &csv);
    if (md.failed || html.failed || csv.failed)
        j->rc = err_set(&j->error, "out of memory for a monthly report");
    else if (report_file_dir(j->dir, &j->error) || report_file_write(j->dir, name, ".csv", csv.s, csv.n, &j->error) ||
             report_file_write(j->dir, name, ".html", html.s, html.n, &j->error) ||
             report_file_write(j->dir, name, ".md", md.s, md.n, &j->error))
        j->rc = -1;
    else
        snprintf(j->said, sizeof j->said, "%.250s/%s.md, .html and .csv", j->dir, name);
    free(md.s);
    free(html.s);
    free(csv.s);
}
