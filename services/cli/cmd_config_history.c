/* cmd_config_history.c - redoubt config history, diff, apply, rollback: the versions of the suite's settings. */
#include "cli/cli_bus.h"
#include "cli/config_history.h"
#include "common/clock.h"
#include "common/sha256.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVICE  "continuity"
#define PART     45000
#define FILE_MAX (16u << 20)
#define SHORT    12 /* digits of a commit that are shown */

static bool good(const PB(CommandReply) * r)
{
    return r->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK ||
           r->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_ALREADY;
}

static int refused(const struct cli_link *k, const PB(CommandReply) * r)
{
    char text[1100];
    return cli_fail(k->c, CLI_REFUSED, "refused: %s", term_clean(r->message, 0, text, sizeof text));
}

/* The payload of a good answer; an empty message packs to nothing. NULL after saying why. */
static void *payload(const struct cli_link *k, const PB(CommandReply) * r, const ProtobufCMessageDescriptor *desc,
                     int *ret)
{
    struct err e = {""};
    void *m = r->payload.len ? wire_unpack(desc, r->payload.data, r->payload.len, &e)
                             : protobuf_c_message_unpack(desc, NULL, 0, NULL);
    if (!m)
        *ret = cli_fail(k->c, CLI_FAILED, "the answer cannot be read: %s", e.text);
    return m;
}

/* One page of history behind `after`; NULL after saying why. */
static PB(ConfigHistory) * page(struct cli_link *k, const char *after, int *ret)
{
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    PB(CommandReply) *r = NULL;
    PB(ConfigHistory) *h = NULL;
    m.after = (char *)after;
    m.by = "operator"; /* an empty message is none */
    *ret = cli_ask_again(k, SERVICE, "config_history", &m, &r);
    if (*ret != CLI_OK)
        return NULL;
    if (good(r))
        h = payload(k, r, PB_DESC(config_history), ret);
    else
        *ret = refused(k, r);
    wire_free(r);
    return h;
}

/* ---- history ---- */

static void show_line(struct term_table *t, const PB(ConfigCommit) * c)
{
    char when[CLOCK_TEXT_MAX], text[1100];
    term_cell(t, TERM_BOLD, "%.*s", SHORT, c->commit);
    term_cell(t, TERM_PLAIN, "%.19sZ", clock_text(c->at_unix_ms, when));
    term_cell(t, TERM_PLAIN, "%s", term_clean(c->by, 0, text, sizeof text));
    term_cell(t, TERM_DIM, "+%" PRIu32 " -%" PRIu32, c->added, c->removed);
    term_cell(t, TERM_PLAIN, "%s", term_clean(c->reason, 0, text, sizeof text));
}

static void show_json(const PB(ConfigCommit) * c)
{
    char *text = wire_json(c);
    printf("%s\n", text ? text : "{}");
    free(text);
}

static int show_history(struct cli_link *k, const struct opts_config_history *o)
{
    static const struct term_column columns[] = {
        {"COMMIT", false}, {"ACCEPTED", false}, {"BY", false}, {"LINES", true}, {"WHY", false}};
    struct term_table *t = o->json ? NULL : term_table_begin(columns, 5);
    char after[80] = "";
    int64_t left = o->count;
    int code;
    do {
        PB(ConfigHistory) *h = page(k, after, &code);
        if (!h)
            break;
        for (size_t i = 0; i < h->n_commits && left > 0; i++, left--) {
            if (t)
                show_line(t, h->commits[i]);
            else
                show_json(h->commits[i]);
        }
        snprintf(after, sizeof after, "%s", h->next);
        wire_free(h);
    } while (*after && left > 0);
    if (t)
        term_table_end(t, &k->c->out, "");
    return code;
}

int cmd_config_history(struct cli *c, const void *opts, int argc, char **argv)
{
    struct cli_link k;
    (void)argc, (void)argv;
    int code = cli_link_open(&k, c);
    if (code == CLI_OK)
        code = show_history(&k, opts);
    cli_link_close(&k);
    return code;
}

/* ---- diff ---- */

static void show_diff(const struct term *t, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        char line[1200];
        enum term_colour style = strncmp(text, "@@", 2) == 0 ? TERM_DIM
                                 : *text == '-'              ? TERM_RED
                                 : *text == '+'              ? TERM_GREEN
                                                             : TERM_PLAIN;
        snprintf(line, sizeof line, "%.*s", (int)(n < 1100 ? n : 1100), text);
        char clean[2400];
        term_print(t, style, "%s", term_clean(line, 0, clean, sizeof clean));
        fputc('\n', t->file);
        text += n + (text[n] == '\n');
    }
}

/* What came of it: the diff, then what was said. Returns the exit code. */
static int show_answer(struct cli_link *k, const PB(CommandReply) * r, bool json)
{
    int code = CLI_OK;
    char text[1100];
    PB(ConfigDiff) *d = payload(k, r, PB_DESC(config_diff), &code);
    if (!d)
        return code;
    if (json) {
        json_t *j =
            json_pack("{s:b, s:s, s:s, s:b}", "ok", good(r), "message", r->message, "diff", d->text, "cut", d->cut);
        char *line = j ? json_dumps(j, 0) : NULL;
        printf("%s\n", line ? line : "{}");
        free(line);
        json_decref(j);
    } else {
        show_diff(&k->c->out, d->text);
        if (d->cut)
            fprintf(k->c->out.file, "... and more\n");
        if (good(r))
            fprintf(k->c->out.file, "%s\n", term_clean(r->message, 0, text, sizeof text));
    }
    wire_free(d);
    return good(r) ? CLI_OK : refused(k, r);
}

int cmd_config_diff(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_config_history *o = opts;
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    PB(CommandReply) *r = NULL;
    struct cli_link k;
    m.by = "operator"; /* an empty message is none */
    if (argc > 0)
        m.from = argv[0];
    if (argc > 1)
        m.to = argv[1];
    int code = cli_link_open(&k, c);
    if (code == CLI_OK)
        code = cli_ask_again(&k, SERVICE, "config_diff", &m, &r);
    if (code == CLI_OK)
        code = show_answer(&k, r, o->json);
    wire_free(r);
    cli_link_close(&k);
    return code;
}

/* ---- apply, rollback ---- */

static int order(struct cli_link *k, const char *verb, PB(ContinuityCommand) * m, const struct opts_config_history *o)
{
    PB(CommandReply) *r = NULL;
    m->by = (char *)(o->by ? o->by : "");
    m->reason = (char *)(o->reason ? o->reason : "");
    m->dry_run = o->dry_run;
    m->force = o->force;
    int code = cli_ask(k, SERVICE, verb, m, &r);
    if (code == CLI_OK)
        code = show_answer(k, r, o->json);
    wire_free(r);
    return code;
}

/* malloc'ed; NULL after saying why. */
static char *read_settings(struct cli *c, const char *path, size_t *ret_len)
{
    size_t room = 65536, n = 0;
    char *text = malloc(room);
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : 1;
    while (text && fd >= 0 && n <= FILE_MAX && (got = read(fd, text + n, room - n)) != 0) {
        if (got < 0 && errno != EINTR)
            break;
        n += got > 0 ? (size_t)got : 0;
        if (n == room) {
            char *bigger = realloc(text, room *= 2);
            if (!bigger)
                free(text);
            text = bigger;
        }
    }
    const char *why = !text          ? "out of memory"
                      : got < 0      ? strerror(errno)
                      : n == 0       ? "it is empty"
                      : n > FILE_MAX ? "it is larger than 16 MiB"
                                     : NULL;
    if (fd > STDIN_FILENO)
        (void)close(fd);
    if (why) {
        cli_fail(c, CLI_USAGE, "%s cannot be read: %s", path, why);
        free(text);
        return NULL;
    }
    *ret_len = n;
    return text;
}

/* In parts that a message holds; the service puts them together, and checks the whole. */
static int hand_in(struct cli_link *k, const char *text, size_t len, char *sha)
{
    int code = CLI_OK;
    for (size_t at = 0; at < len && code == CLI_OK; at += PART) {
        PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
        PB(CommandReply) *r = NULL;
        m.sha256 = sha;
        m.offset = at;
        m.bytes = len;
        m.data = (ProtobufCBinaryData){.data = (uint8_t *)text + at, .len = len - at < PART ? len - at : PART};
        code = cli_ask_again(k, SERVICE, "config_put", &m, &r);
        if (code == CLI_OK && !good(r))
            code = refused(k, r);
        wire_free(r);
    }
    return code;
}

/* The present version, if nobody has named another. */
static int find_from(struct cli_link *k, char *from, size_t size)
{
    int code;
    PB(ConfigHistory) *h = page(k, "", &code);
    if (h && h->n_commits > 0)
        snprintf(from, size, "%s", h->commits[0]->commit);
    wire_free(h);
    return code;
}

int cmd_config_apply(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_config_history *o = opts;
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    char sha[SHA256_TEXT], from[80] = "";
    struct cli_link k;
    size_t len = 0;
    (void)argc;
    if (!o->dry_run && (!o->by || !*o->by || !o->reason || !*o->reason))
        return cli_fail(c, CLI_USAGE, "--by NAME and --reason TEXT are required: they are part of the history");
    char *text = read_settings(c, argv[0], &len);
    if (!text)
        return CLI_USAGE;
    sha256_text(text, len, sha);
    if (o->from)
        snprintf(from, sizeof from, "%.70s", o->from);
    int code = cli_link_open(&k, c);
    if (code == CLI_OK && !*from)
        code = find_from(&k, from, sizeof from);
    if (code == CLI_OK)
        code = hand_in(&k, text, len, sha);
    m.sha256 = sha;
    m.from = from;
    if (code == CLI_OK)
        code = order(&k, "config_apply", &m, o);
    cli_link_close(&k);
    free(text);
    return code;
}

int cmd_config_rollback(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_config_history *o = opts;
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    struct cli_link k;
    (void)argc;
    if (!o->dry_run && (!o->by || !*o->by || !o->reason || !*o->reason))
        return cli_fail(c, CLI_USAGE, "--by NAME and --reason TEXT are required: they are part of the history");
    m.to = argv[0];
    int code = cli_link_open(&k, c);
    if (code == CLI_OK)
        code = order(&k, "config_rollback", &m, o);
    cli_link_close(&k);
    return code;
}
