/* backup_command.c - operators' orders: a copy now, a test restore now. First the record of who wants it, then the act. */
#include "continuity/backup_command.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATUS(name) REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_##name

struct backup_order {
    struct backups *b; /* NULL: they are closed */
    struct service *s;
    struct backup_order *next;
    enum backup_act act;
    bool force;
    char source[65], reply[SUBJECT_MAX_LEN];
};

static void take_out(struct backup_order *o)
{
    struct backup_order **at = &o->b->orders;
    while (*at && *at != o)
        at = &(*at)->next;
    if (*at)
        *at = o->next;
}

void backup_commands_left(struct backups *b)
{
    for (struct backup_order *o = b->orders; o; o = o->next)
        o->b = NULL;
    b->orders = NULL;
}

static void on_recorded(void *ctx, int status, const char *error)
{
    struct backup_order *o = ctx;
    struct backup_source *x = NULL;
    if (o->b) {
        take_out(o);
        x = backups_find(o->b, o->source);
    }
    if (status != 0) {
        service_reply(o->s, o->reply, STATUS(UNAVAILABLE), 0,
                      "nothing was done: the order cannot be recorded in the trail (%s)", error ? error : "");
    } else if (!x || !continuity_leads(o->b->c)) {
        service_reply(o->s, o->reply, STATUS(UNAVAILABLE), 0,
                      "nothing was done: another replica leads now. Ask again");
    } else {
        x->force = x->force || o->force;
        backup_plan_ask(&x->plan, o->act, continuity_now_ms(o->b->c));
        service_reply(o->s, o->reply, STATUS(OK), x->revision,
                      "%s of `%s` %s: `redoubt continuity status` shows how it ends",
                      o->act == BACKUP_SAVE ? "a copy" : "a test restore", o->source,
                      x->run ? "begins when what runs has ended" : "begins");
    }
    free(o);
}

static void list_names(const struct backups *b, char *buf, size_t size)
{
    size_t n = 0;
    *buf = '\0';
    for (size_t i = 0; i < b->n && n + 70 < size; i++)
        n += (size_t)snprintf(buf + n, size - n, "%s%s", i ? ", " : "", b->sources[i]->set->name);
}

void backups_command(struct backups *b, const char *verb, const PB(ContinuityCommand) * cmd, const char *reply)
{
    struct service *s = continuity_service_of(b->c);
    enum backup_act act = strcmp(verb, "test") == 0 ? BACKUP_TEST : BACKUP_SAVE;
    struct backup_source *x = backups_find(b, cmd->name);
    char names[400], detail[ERR_TEXT_MAX];
    if (!x) {
        list_names(b, names, sizeof names);
        service_reply(s, reply, STATUS(INVALID), 0, "there is no source `%.64s`; there are: %s", cmd->name,
                      *names ? names : "none (continuity.backups)");
        return;
    }
    if (!cmd->dry_run && (!*cmd->by || !*cmd->reason)) {
        service_reply(s, reply, STATUS(INVALID), 0, "who wants it (by) and why (reason) is missing");
        return;
    }
    if (act == BACKUP_TEST && x->plan.point_ms == 0) {
        service_reply(s, reply, STATUS(UNAVAILABLE), 0, "`%s` has no proven copy that could be restored%s%.300s",
                      cmd->name, *x->error ? ": " : "", x->error);
        return;
    }
    if (cmd->dry_run) {
        service_reply(s, reply, STATUS(OK), x->revision, "would begin %s of `%s`%s",
                      act == BACKUP_SAVE ? "a copy" : "a test restore", cmd->name,
                      act == BACKUP_SAVE && cmd->force ? " and accept whatever size it has" : "");
        return;
    }
    struct backup_order *o = calloc(1, sizeof *o);
    assert(o && "out of memory for an order");
    *o = (struct backup_order){
        .b = b, .s = s, .next = b->orders, .act = act, .force = act == BACKUP_SAVE && cmd->force};
    snprintf(o->source, sizeof o->source, "%s", cmd->name);
    snprintf(o->reply, sizeof o->reply, "%s", reply);
    b->orders = o;
    snprintf(detail, sizeof detail, "%s%.400s", o->force ? "accepting its size: " : "", cmd->reason);
    continuity_record_strict(b->c, act == BACKUP_SAVE ? "backup.ordered" : "backup.test_ordered", cmd->by, cmd->name,
                             detail, on_recorded, o);
}
