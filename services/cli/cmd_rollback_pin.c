/* cmd_rollback_pin.c - redoubt rollback pin: an override for compose, on stdout, that keeps a deployment on what runs. */
#include "cli/cmd.h"
#include "cli/rollback_ask.h"
#include "cli/rollback_pin.h"
#include <stdlib.h>

int cmd_rollback_pin(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)opts, (void)argc;
    PB(RollbackChanged) *m = NULL;
    struct rollback_records records = {0};
    struct cli_link link;
    struct err e = {""};
    bool live = true;
    char *text = NULL;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK)
        code = rollback_ask_one(&link, argv[0], &m, &live);
    if (code == CLI_OK)
        code = rollback_ask_records(&link, argv[0], &records);
    if (code == CLI_OK) {
        const PB(VersionRecord) *rec = rollback_record(&records, m->current_version);
        /* What was announced last may not run any more, and would be pinned. */
        if (!live)
            code = cli_fail(c, CLI_UNREACHABLE, "redoubt-rollback does not answer: what runs now is not known");
        else if (!rec)
            code = cli_fail(c, CLI_FAILED, "how the current version of %s is made was not recorded yet", argv[0]);
        else if (!(text = rollback_pin_text(rec, &e)))
            code = cli_fail(c, CLI_FAILED, "%s", e.text);
        else
            fputs(text, stdout);
    }
    free(text);
    rollback_records_free(&records);
    wire_free(m);
    cli_link_close(&link);
    return code;
}
