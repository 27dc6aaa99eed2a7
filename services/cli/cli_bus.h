/* cli_bus.h - one command's connection to the suite: open, ask, watch, close; errors are said here, once. */
#ifndef REDOUBT_CLI_BUS_H
#define REDOUBT_CLI_BUS_H

#include "cli/cli.h"
#include "common/bus.h"
#include "common/loop.h"
#include "common/settings.h"
#include "common/subjects.h"
#include "common/wire.h"

struct cli_link {
    struct cli *c;
    struct loop loop;
    struct bus *bus;
    struct settings *settings; /* NULL if the bus was given by its URL alone */
    const char *url;
    bool up;           /* connected now */
    bool was_up;       /* connected at least once */
    bool interrupted;  /* SIGINT or SIGTERM came */
    uint64_t downs;    /* how often the connection was lost */
    char trouble[256]; /* what the bus said last of what went wrong */
    uv_signal_t signals[2];
    unsigned inboxes;
    char inbox[64];
};
/* 0, or an exit code after saying why. Close in both cases. */
int cli_link_open(struct cli_link *k, struct cli *c);
/* The same for what needs nothing of the settings but the bus: they may hold `nats` alone. */
int cli_link_open_brief(struct cli_link *k, struct cli *c);
void cli_link_close(struct cli_link *k);

/* Reads the settings file of the options; NULL after saying what is wrong with it. */
struct settings *cli_settings(const struct cli *c);
struct settings *cli_settings_of(const struct cli *c, const char *path);

/* Asks `redoubt.v1.cmd.<service>.<verb>`. CLI_OK with the reply in *ret (free with wire_free), also for a reply that says
 * no: look at its status; otherwise an exit code after saying why. */
int cli_ask(struct cli_link *k, const char *service, const char *verb, const void *message, PB(CommandReply) * *ret);
/* The same, asked again until a replica answers or the time is over: for what may be asked twice. */
int cli_ask_again(struct cli_link *k, const char *service, const char *verb, const void *message,
                  PB(CommandReply) * *ret);
/* Says what a reply to an order says; its exit code. */
int cli_said(struct cli_link *k, const PB(CommandReply) * r);
/* Asks, and says what came of it: "opened" and so on is in the reply's message. */
int cli_order(struct cli_link *k, const char *service, const char *verb, const void *message);
/* The same on a link of its own: the whole of a command that orders one thing. */
int cli_give(struct cli *c, const char *service, const char *verb, const void *message);
/* The same for orders that may be given twice: asked again until a replica answers, or the time is over. */
int cli_insist(struct cli_link *k, const char *service, const char *verb, const void *message);

/* A request that every instance answers, such as $SRV.STATS: collects until quiet_ms after the last answer, limit_ms at most. */
void cli_gather(struct cli_link *k, const char *subject, int64_t quiet_ms, int64_t limit_ms, bus_handler fn,
                void *ctx);
/* The same with a message in the request. */
void cli_gather_of(struct cli_link *k, const char *subject, const char *type, const void *data, size_t len,
                   int64_t quiet_ms, int64_t limit_ms, bus_handler fn, void *ctx);

/* A fresh subject below the link's own inbox. Returns buf. */
char *cli_inbox(struct cli_link *k, char buf[static SUBJECT_MAX_LEN]);

#endif
