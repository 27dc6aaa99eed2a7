/* cmd_continuity.c - redoubt continuity status, availability, report, backup, test, drill. */
#include "cli/cmd.h"
#include "cli/continuity_ask.h"
#include "cli/continuity_view.h"
#include "cli/status_view.h"
#include "common/clock.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 1024

static void print_json(json_t *j)
{
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

/* ---- status ---- */

int cmd_continuity_status(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct opts_continuity *o = opts;
    PB(ContinuityCommand) m = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    PB(ContinuityStatus) *s = NULL;
    struct cli_link link;
    m.agent = (char *)(o->agent ? o->agent : "");
    int code = cli_link_open(&link, c);
    if (code == CLI_OK)
        s = continuity_ask(&link, "status", &m, PB_DESC(continuity_status), &code);
    if (code == CLI_UNREACHABLE && link.up && !o->agent &&
        (s = continuity_ask_doc(&link, SUBJECT_CONTINUITY_STATUS, PB_DESC(continuity_status)))) {
        cli_fail(c, 0, "this is what it announced last");
    }
    if (s && o->json)
        print_json(status_message_json(s));
    else if (s)
        continuity_view_print(s, &c->out, clock_wall_ms());
    if (s && code == CLI_OK && s->breached > 0)
        code = CLI_FAILED;
    wire_free(s);
    cli_link_close(&link);
    return code;
}

/* ---- availability ---- */

/* "2026-11" -> 202611; 0 = it is no month. */
static uint32_t month_of(const char *text)
{
    unsigned year = 0, month = 0;
    int used = 0;
    if (strlen(text) != 7 || sscanf(text, "%4u-%2u%n", &year, &month, &used) != 2 || used != 7 || year < 2000 ||
        month < 1 || month > 12)
        return 0;
    return (uint32_t)(year * 100 + month);
}

/* All pages as one report. */
static PB(AvailabilityReport) * ask_availability(struct cli_link *k, PB(ContinuityCommand) * m, int *ret)
{
    PB(AvailabilityReport) *all = NULL;
    char after[65] = "";
    m->after = after;
    do {
        PB(AvailabilityReport) *page = continuity_ask(k, "availability", m, PB_DESC(availability_report), ret);
        if (!page)
            break;
        snprintf(after, sizeof after, "%s", page->n_agents ? page->next : "");
        if (!all) {
            all = page;
            continue;
        }
        all->agents = reallocarray(all->agents, all->n_agents + page->n_agents + 1, sizeof *all->agents);
        if (!all->agents)
            abort();
        for (size_t i = 0; i < page->n_agents; i++)
            all->agents[all->n_agents++] = page->agents[i];
        page->n_agents = 0;
        wire_free(page);
    } while (*after && !k->interrupted);
    if (*ret != CLI_OK) {
        wire_free(all);
        all = NULL;
    }
    return all;
}

int cmd_continuity_availability(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_continuity *o = opts;
    PB(ContinuityCommand) m = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    struct cli_link link;
    if (argc > 0 && !(m.month = month_of(argv[0])))
        return cli_fail(c, CLI_USAGE, "found `%s`; allowed: a month, as 2026-11", argv[0]);
    if (o->json && o->csv)
        return cli_fail(c, CLI_USAGE, "--json, --csv: give one of them");
    m.agent = (char *)(o->agent ? o->agent : "");
    int code = cli_link_open(&link, c);
    PB(AvailabilityReport) *r = code == CLI_OK ? ask_availability(&link, &m, &code) : NULL;
    if (r && o->json)
        print_json(status_message_json(r));
    else if (r && o->csv)
        continuity_view_csv_availability(r, stdout);
    else if (r)
        continuity_view_print_availability(r, &c->out);
    wire_free(r);
    cli_link_close(&link);
    return code;
}

/* ---- report ---- */

/* The file as it stands. Reports hold texts of many sources: nothing in them may drive the terminal. */
static int print_file(struct cli *c, const char *path)
{
    char *line = NULL, *clean = NULL;
    size_t cap = 0, room = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return cli_fail(c, CLI_FAILED, "%s: %s; it is on the host where redoubt-continuity writes it", path,
                        strerror(errno));
    for (ssize_t n; (n = getline(&line, &cap, f)) >= 0;) {
        bool ended = n > 0 && line[n - 1] == '\n';
        if (ended)
            line[n - 1] = 0;
        if (!c->out.tty) {
            printf("%s%s", line, ended ? "\n" : "");
            continue;
        }
        if (room < 2 * (size_t)n + 64) {
            room = 2 * (size_t)n + 64;
            free(clean);
            if (!(clean = malloc(room)))
                abort();
        }
        printf("%s%s", term_clean(line, 0, clean, room), ended ? "\n" : "");
    }
    free(line);
    free(clean);
    int code = ferror(f) ? cli_fail(c, CLI_FAILED, "%s cannot be read", path) : CLI_OK;
    fclose(f);
    return code;
}

static int report_path(struct cli *c, const char *name, char path[static PATH_SIZE])
{
    struct settings *s = cli_settings(c);
    if (!s)
        return CLI_USAGE;
    const char *dir = s->continuity.reports.dir;
    int n = *dir ? snprintf(path, PATH_SIZE, "%s/%s.md", dir, name)
                 : snprintf(path, PATH_SIZE, "%s/continuity/reports/%s.md", s->data_dir, name);
    settings_free(s);
    return n > 0 && n < PATH_SIZE && !strchr(name, '/')
               ? CLI_OK
               : cli_fail(c, CLI_FAILED, "`%s` is no name of a report", name);
}

int cmd_continuity_report(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_continuity *o = opts;
    PB(ContinuityCommand) m = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    PB(IncidentChanged) *doc = NULL;
    char id[INCIDENT_ASK_ID] = "", path[PATH_SIZE], name[129] = "";
    struct cli_link link;
    bool live, month = month_of(argv[0]) != 0;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && month)
        m.name = argv[0];
    else if (code == CLI_OK && (code = incident_ask_id(&link, argv[0], id)) == CLI_OK)
        m.incident = id;
    if (code == CLI_OK)
        code = cli_order(&link, "continuity", "report", &m);
    if (code == CLI_OK && o->print && month) {
        snprintf(name, sizeof name, "availability-%s", argv[0]);
    } else if (code == CLI_OK && o->print && (code = incident_ask_one(&link, id, &doc, &live)) == CLI_OK) {
        snprintf(name, sizeof name, "%s", doc->report);
        if (!*name)
            code = cli_fail(c, CLI_FAILED, "the report of %s does not stand yet: it is being written", id);
    }
    wire_free(doc);
    cli_link_close(&link);
    if (code == CLI_OK && o->print && (code = report_path(c, name, path)) == CLI_OK) {
        putchar('\n');
        code = print_file(c, path);
    }
    return code;
}

/* ---- backup, test, drill ---- */

int cmd_continuity_order(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_continuity *o = opts;
    PB(ContinuityCommand) m = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    if (!o->by || !o->reason)
        return cli_fail(c, CLI_USAGE, "--by NAME and --reason TEXT are required: they land in the audit trail");
    m.name = argv[0];
    m.by = (char *)o->by;
    m.reason = (char *)o->reason;
    m.force = o->force;
    return cli_give(c, "continuity", strrchr(c->row->path, ' ') + 1, &m);
}
