/* cmd_tail.c - redoubt tail and redoubt audit tail. */
#include "cli/cmd.h"
#include "cli/subject_match.h"
#include "cli/tail.h"
#include "common/subjects.h"

static int run(struct cli *c, const struct opts_tail *o, const char *subject)
{
    const struct tail_opts t = {
        .json = o->json, .replay = o->replay, .all = o->all, .count = o->count, .limit_ms = o->limit_ms};
    return tail_run(c, subject, &t);
}

int cmd_tail(struct cli *c, const void *opts, int argc, char **argv)
{
    char subject[SUBJECT_MAX_LEN];
    if (argc == 0)
        return run(c, opts, NULL);
    subject_meant(argv[0], subject, sizeof subject);
    return run(c, opts, subject);
}

int cmd_audit_tail(struct cli *c, const void *opts, int argc, char **argv)
{
    char subject[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, SUBJECT_AUDIT "%s", argc ? argv[0] : ">");
    return run(c, opts, subject);
}
