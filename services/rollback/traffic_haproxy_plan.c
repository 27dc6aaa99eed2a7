/* traffic_haproxy_plan.c - pure: HAProxy's answers read, and the commands that bring its servers where they are wanted. */
#include "rollback/traffic_haproxy_plan.h"
#include "common/hostport.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define WEIGHT_MAX 256
#define MAINT      0x23 /* forced, inherited, by DNS; not "in the configuration", which stays after `ready` */
#define DRAIN      0x18
#define COLUMNS    128

/* ---- words ---- */

/* What HAProxy says, and what it means to who reads it. */
static const struct {
    const char *says, *means;
    bool lasting;
} words[] = {
    {"Permission denied",
     "the socket's level is too low: `stats socket ... level admin` in HAProxy's `global` section", true},
    {"No such backend", "check `traffic.backend`, or HAProxy's configuration", true},
    {"Can't find backend", "check `traffic.backend`, or HAProxy's configuration", true},
    {"No such server", "check `traffic.side_0` and `side_1`, or HAProxy's configuration", true},
    {"Require 'backend/server'", "check `traffic.backend` and the names of the servers", true},
    {"Absolute weight can only", "weights are 0 to 256: this is a fault of Redoubt", true},
    {"Backend is using a static LB algorithm", "use `balance roundrobin` or `random` in this backend", true},
    {"Invalid addr", "a server takes an IP address only: give instances by IP, or `set_address: false`", true},
    {"Unknown command", "what answers there is HAProxy, but does not know this command: 2.2 or later is needed",
     true},
    {"Process is over its memory limits", "HAProxy has no memory left", false},
};

static bool is_success(const char *line, size_t len)
{
    static const char *const rows[] = {"no need to change", "IP changed from", "port changed from"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (len >= strlen(rows[i]) && strncmp(line, rows[i], strlen(rows[i])) == 0)
            return true;
    return false;
}

/* The words of one line that is no success. */
static int refused(const char *line, size_t len, struct err *e, bool *ret_lasting)
{
    int shown = len > 160 ? 160 : (int)len;
    *ret_lasting = true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (len >= strlen(words[i].says) && strncmp(line, words[i].says, strlen(words[i].says)) == 0) {
            *ret_lasting = words[i].lasting;
            return err_set(e, "HAProxy says: %.*s (%s)", shown, line, words[i].means);
        }
    return err_set(e, "HAProxy says: %.*s", shown, line);
}

int traffic_haproxy_said(const char *answer, struct err *e, bool *ret_lasting)
{
    for (const char *line = answer; *line;) {
        size_t len = strcspn(line, "\n");
        if (len && !is_success(line, len))
            return refused(line, len, e, ret_lasting);
        line += len + (line[len] == '\n');
    }
    return 0;
}

/* ---- what stands ---- */

void traffic_haproxy_init(struct traffic_haproxy *h, const struct set_rb_traffic *set)
{
    const struct conf_list *sides[2] = {&set->side_0, &set->side_1};
    *h = (struct traffic_haproxy){.backend = set->backend};
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < sides[s]->n && i < TRAFFIC_SERVERS; i++)
            h->server[s][h->n[s]++].name = *CONF_AT(*sides[s], char *, i);
}

void traffic_haproxy_question(const struct traffic_haproxy *h, char line[static TRAFFIC_COMMAND_MAX])
{
    /* All kinds of rows (4: servers, 2: the backend itself, which names the algorithm). */
    snprintf(line, TRAFFIC_COMMAND_MAX, "show servers state %s;show stat %s 6 -1", h->backend, h->backend);
}

/* Splits one line in place; fields of CSV may be quoted. */
static size_t split(char *line, char separator, char *ret[static COLUMNS])
{
    size_t n = 0;
    for (char *p = line; n < COLUMNS;) {
        if (*p == '"' && separator == ',') {
            char *to = p;
            ret[n++] = p++;
            while (*p && !(*p == '"' && p[1] != '"')) {
                p += *p == '"';
                *to++ = *p++;
            }
            p += *p == '"';
            char next = *p;
            *to = '\0';
            if (next != separator)
                break;
            p++;
            continue;
        }
        ret[n++] = p;
        p += strcspn(p, (char[]){separator, '\0'});
        if (!*p)
            break;
        *p++ = '\0';
    }
    return n;
}

/* Column `name` of a row by its heading; "" if there is none. */
static const char *cell(char *const *heads, size_t n_heads, char *const *row, size_t n, const char *name)
{
    for (size_t i = 0; i < n_heads && i < n; i++)
        if (strcmp(heads[i], name) == 0)
            return row[i];
    return "";
}

static struct traffic_server *find(struct traffic_haproxy *h, const char *name)
{
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < h->n[s]; i++)
            if (strcmp(h->server[s][i].name, name) == 0)
                return &h->server[s][i];
    return NULL;
}

static void take_state(struct traffic_haproxy *h, char *const *heads, size_t n_heads, char *const *row, size_t n)
{
#define CELL(name) cell(heads, n_heads, row, n, name)
    const char *name = CELL("srv_name");
    int admin = atoi(CELL("srv_admin_state"));
    struct traffic_server *v = find(h, name);
    unsigned weight = (unsigned)atoi(CELL("srv_uweight"));
    if (!v) {
        if (weight && !(admin & (MAINT | DRAIN)) && !*h->stranger)
            snprintf(h->stranger, sizeof h->stranger, "%s", name);
        return;
    }
    v->there = true;
    snprintf(v->host, sizeof v->host, "%s", CELL("srv_addr"));
    v->port = atoi(CELL("srv_port"));
    v->maint = admin & MAINT;
    v->drain = admin & DRAIN;
    v->down = atoi(CELL("srv_op_state")) == 0 && !v->maint;
    v->weight = weight;
}

static void take_stat(struct traffic_haproxy *h, char *const *heads, size_t n_heads, char *const *row, size_t n)
{
    const char *name = CELL("svname");
    struct traffic_server *v = find(h, name);
    if (v)
        v->sessions = (unsigned)atoi(CELL("scur"));
    else if (strcmp(name, "BACKEND") == 0)
        snprintf(h->algorithm, sizeof h->algorithm, "%s", CELL("algo"));
#undef CELL
}

static void forget(struct traffic_haproxy *h)
{
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < h->n[s]; i++)
            h->server[s][i] = (struct traffic_server){.name = h->server[s][i].name};
    *h->stranger = *h->algorithm = '\0';
}

static int complete(const struct traffic_haproxy *h, const char *answer, bool seen, struct err *e, bool *ret_lasting)
{
    if (!seen) {
        const char *line = answer + strspn(answer, "\r\n");
        size_t len = strcspn(line, "\r\n");
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (strncmp(line, words[i].says, strlen(words[i].says)) == 0)
                return refused(line, len, e, ret_lasting);
        *ret_lasting = true;
        return err_set(e, "this is not HAProxy's runtime API: it answers `%.*s`; check `traffic.address`",
                       len > 60 ? 60 : (int)len, line);
    }
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < h->n[s]; i++)
            if (!h->server[s][i].there) {
                *ret_lasting = true;
                return err_set(e,
                               "HAProxy's backend %s has no server %s: add it to the backend (`server %s 127.0.0.1:1 "
                               "weight 0 disabled` does), or correct `traffic.side_%d`",
                               h->backend, h->server[s][i].name, h->server[s][i].name, s);
            }
    return 0;
}

int traffic_haproxy_read(struct traffic_haproxy *h, const char *answer, struct err *e, bool *ret_lasting)
{
    char *text = strdup(answer), *heads[COLUMNS], *row[COLUMNS], *rest = text;
    size_t n_heads = 0;
    bool seen = false, stat = false;
    *ret_lasting = false;
    if (!text)
        return err_set(e, "out of memory");
    forget(h);
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, "# be_id ", 8) == 0 || strncmp(line, "# pxname,", 9) == 0) {
            stat = line[2] == 'p';
            seen = seen || !stat;
            n_heads = split(line + 2, stat ? ',' : ' ', heads);
        } else if (*line && n_heads) {
            size_t n = split(line, stat ? ',' : ' ', row);
            if (n > 4 && stat)
                take_stat(h, heads, n_heads, row, n);
            else if (n > 4)
                take_state(h, heads, n_heads, row, n);
        }
    }
    free(text);
    return complete(h, answer, seen, e, ret_lasting);
}

/* IPv6 has several ways to write one address. */
static bool same_host(const char *a, const char *b)
{
    unsigned char x[16], y[16];
    if (inet_pton(AF_INET6, a, x) == 1 && inet_pton(AF_INET6, b, y) == 1)
        return memcmp(x, y, sizeof x) == 0;
    return strcasecmp(a, b) == 0;
}

static bool is_ip(const char *host)
{
    unsigned char x[16];
    return inet_pton(AF_INET, host, x) == 1 || inet_pton(AF_INET6, host, x) == 1;
}

struct place {
    char host[64];
    int port;
};

static unsigned serves(const struct traffic_server *v)
{
    return v->there && !v->maint && !v->drain ? v->weight : 0;
}

static bool is_at(const struct traffic_server *v, const struct place *p)
{
    return v->port == p->port && same_host(v->host, p->host);
}

/* Weight of this side's servers that goes to nothing of it. */
static unsigned nobodys(const struct traffic_haproxy *h, int side, const struct executor_instance *at, size_t n)
{
    struct place p[EXECUTOR_INSTANCES];
    size_t k = 0;
    unsigned lost = 0;
    bool waits = false; /* a ready instance is at none of the servers that serve */
    for (size_t i = 0; i < n; i++) {
        char host[HOSTPORT_HOST_MAX];
        if (at[i].side != side || (!at[i].address[0] && !at[i].running))
            continue;
        if (k == EXECUTOR_INSTANCES || hostport_split(at[i].address, 0, host, &p[k].port) < 0 ||
            strlen(host) >= sizeof p[k].host || !is_ip(host))
            return 0; /* HAProxy shows IP addresses: a name cannot be compared with them */
        strcpy(p[k].host, host);
        bool served = false;
        for (size_t s = 0; s < h->n[side]; s++)
            served |= serves(&h->server[side][s]) && is_at(&h->server[side][s], &p[k]);
        waits |= at[i].running && at[i].ready && !served;
        k++;
    }
    for (size_t s = 0; waits && s < h->n[side]; s++) {
        bool somebodys = false;
        for (size_t i = 0; i < k; i++)
            somebodys |= is_at(&h->server[side][s], &p[i]);
        lost += somebodys ? 0 : serves(&h->server[side][s]);
    }
    return lost;
}

void traffic_haproxy_found(const struct traffic_haproxy *h, const struct executor_instance *at, size_t n,
                           int share[2], int *nobody)
{
    unsigned all = 0, lost[2] = {0, 0};
    for (int s = 0; s < 2; s++) {
        lost[s] = nobodys(h, s, at, n);
        for (size_t i = 0; i < h->n[s]; i++)
            all += serves(&h->server[s][i]);
    }
    traffic_haproxy_shares(h, share);
    if (lost[0] + lost[1])
        for (int s = 0; s < 2; s++) {
            unsigned found = 0;
            for (size_t i = 0; i < h->n[s]; i++)
                found += serves(&h->server[s][i]);
            share[s] = (int)(100 * (found - lost[s]) / all); /* rounded down: something is left for nobody */
        }
    *nobody = 100 - share[0] - share[1];
}

void traffic_haproxy_shares(const struct traffic_haproxy *h, int share[2])
{
    unsigned total[2] = {0, 0};
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < h->n[s]; i++)
            total[s] += serves(&h->server[s][i]);
    unsigned all = total[0] + total[1];
    share[0] = all ? (int)((200 * total[0] + all) / (2 * all)) : 0;
    share[1] = all ? 100 - share[0] : 0;
}

/* ---- what is wanted ---- */

/* Ready instances of a side, or those that run if none is ready and the side only keeps or loses traffic. */
static size_t gather(const struct traffic_order *o, int side, bool only_ready, bool set_address, size_t servers,
                     struct place at[static EXECUTOR_INSTANCES], size_t index[static EXECUTOR_INSTANCES],
                     struct err *e)
{
    size_t n = 0, nth = 0;
    for (size_t i = 0; i < o->n; i++) {
        const struct executor_instance *x = &o->instances[i];
        char host[HOSTPORT_HOST_MAX];
        if (x->side != side)
            continue;
        size_t here = nth++;
        if (!(only_ready ? x->running && x->ready : x->running))
            continue;
        if (n == EXECUTOR_INSTANCES || (set_address ? n : here) >= servers) {
            err_set(e, "side %d has more instances than `traffic.side_%d` has servers (%zu): add servers", side, side,
                    servers);
            return SIZE_MAX;
        }
        at[n] = (struct place){.port = 0};
        if (set_address) {
            if (hostport_split(x->address, 0, host, &at[n].port) < 0 || strlen(host) >= sizeof at[n].host) {
                err_set(e,
                        "instance %s has no address (`%s`) that HAProxy could be given: set the executor's port, or "
                        "`set_address: false`",
                        x->name, x->address);
                return SIZE_MAX;
            }
            strcpy(at[n].host, host);
        }
        index[n++] = here;
    }
    return n;
}

/* Which server is whose: an instance keeps the one that has its address, the others take what is free, in order. */
static void assign(const struct traffic_haproxy *h, int side, bool set_address, size_t n, const struct place *at,
                   const size_t *index, struct traffic_wanted *w)
{
    bool placed[EXECUTOR_INSTANCES] = {false};
    for (size_t i = 0; i < n; i++) {
        if (!set_address) {
            w->server[side][index[i]].used = placed[i] = true;
            continue;
        }
        for (size_t k = 0; k < h->n[side] && !placed[i]; k++) {
            const struct traffic_server *v = &h->server[side][k];
            if (w->server[side][k].used || v->maint || v->port != at[i].port || !same_host(v->host, at[i].host))
                continue;
            w->server[side][k].used = placed[i] = true;
        }
    }
    for (size_t i = 0, k = 0; i < n; i++) {
        if (placed[i])
            continue;
        while (w->server[side][k].used)
            k++;
        w->server[side][k].used = true;
        strcpy(w->server[side][k].host, at[i].host);
        w->server[side][k].port = at[i].port;
    }
}

static void spread(const struct traffic_haproxy *h, int side, size_t n, unsigned total, struct traffic_wanted *w)
{
    size_t nth = 0;
    for (size_t k = 0; k < h->n[side]; k++)
        if (w->server[side][k].used) {
            w->server[side][k].weight = total / (unsigned)n + (nth < total % n ? 1 : 0);
            nth++;
        }
}

int traffic_haproxy_want(const struct traffic_haproxy *h, const struct traffic_order *o, bool set_address,
                         struct traffic_wanted *ret, struct err *e, bool *ret_lasting)
{
    struct place at[EXECUTOR_INSTANCES];
    size_t index[EXECUTOR_INSTANCES], n[2];
    int now[2];
    *ret = (struct traffic_wanted){0};
    *ret_lasting = false;
    traffic_haproxy_shares(h, now);
    for (int s = 0; s < 2; s++) {
        n[s] = gather(o, s, true, set_address, h->n[s], at, index, e);
        /* What is not ready gets no more than it has, but is not cut off either while nothing else stands there. */
        if (n[s] == 0 && o->share[s] <= now[s])
            n[s] = gather(o, s, false, set_address, h->n[s], at, index, e);
        if (n[s] == SIZE_MAX) {
            *ret_lasting = true;
            return -1;
        }
        if (n[s] == 0 && o->share[s] > 0)
            return err_set(e, "side %d is to have %d %% of the traffic, and no instance of %s is ready there", s,
                           o->share[s], *o->name[s] ? o->name[s] : "any version");
        assign(h, s, set_address, n[s], at, index, ret);
    }
    /* One scale for all steps of a job: then what is raised first never has more than its share meanwhile. Sums are exact percents. */
    size_t few = n[0] == 0 ? n[1] : n[1] == 0 || n[0] < n[1] ? n[0] : n[1];
    unsigned scale = (unsigned)(WEIGHT_MAX * few / 100);
    for (int s = 0; s < 2; s++)
        if (n[s])
            spread(h, s, n[s], (unsigned)o->share[s] * scale, ret);
    return 0;
}

bool traffic_haproxy_able(const struct traffic_haproxy *h, const struct traffic_wanted *w, struct err *e)
{
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < h->n[s]; i++) {
            const struct traffic_server *v = &h->server[s][i];
            if (!w->server[s][i].weight || w->server[s][i].weight <= serves(v) || (!v->down && !v->maint))
                continue;
            err_set(e,
                    "HAProxy takes server %s (%s port %d) for %s: traffic would be lost; can HAProxy reach that "
                    "address, and is its health check right?",
                    v->name, v->host, v->port,
                    v->maint ? "being in maintenance (its name does not resolve?)" : "down");
            return false;
        }
    return true;
}

/* ---- commands ---- */

#define SAY(...) (snprintf(command, TRAFFIC_COMMAND_MAX, __VA_ARGS__), true)

/* Command k (0, 1, ...) for one server in this phase; false: there are no more. */
static bool one(const struct traffic_haproxy *h, int s, size_t i, const struct traffic_wanted *w,
                enum traffic_phase phase, size_t k, char command[static TRAFFIC_COMMAND_MAX])
{
    const struct traffic_server *v = &h->server[s][i];
    const char *host = w->server[s][i].host;
    unsigned weight = w->server[s][i].weight, has = serves(v);
    bool used = w->server[s][i].used, off = v->maint || v->drain;
    bool moves = used && w->server[s][i].port && (v->port != w->server[s][i].port || !same_host(v->host, host));
    switch (phase) {
    case TRAFFIC_READY: {
        bool rows[3] = {used && off && v->weight, moves, used && off};
        size_t row = 0;
        while (row < 3 && !(rows[row] && k-- == 0))
            row++;
        switch (row) {
        case 0:
            return SAY("set weight %s/%s 0", h->backend, v->name);
        case 1:
            return SAY("set server %s/%s addr %s port %d", h->backend, v->name, host, w->server[s][i].port);
        case 2:
            return SAY("set server %s/%s state ready", h->backend, v->name);
        default:
            return false;
        }
    }
    case TRAFFIC_RAISE:
        return k == 0 && used && weight > has && SAY("set weight %s/%s %u", h->backend, v->name, weight);
    case TRAFFIC_LOWER:
        if (used)
            return k == 0 && weight < has && SAY("set weight %s/%s %u", h->backend, v->name, weight);
        if (v->weight && k-- == 0)
            return SAY("set weight %s/%s 0", h->backend, v->name);
        return !v->maint && k == 0 && SAY("set server %s/%s state maint", h->backend, v->name);
    }
    return false;
}

/* *at counts servers in its high part, commands of a server in its low two bits. */
bool traffic_haproxy_command(const struct traffic_haproxy *h, const struct traffic_wanted *w,
                             enum traffic_phase phase, size_t *at, char command[static TRAFFIC_COMMAND_MAX])
{
    for (;;) {
        size_t i = *at / 4;
        int s = i >= h->n[0];
        if (s)
            i -= h->n[0];
        if (s && i >= h->n[1])
            return false;
        if (one(h, s, i, w, phase, *at % 4, command)) {
            (*at)++;
            return true;
        }
        *at = (*at / 4 + 1) * 4;
    }
}
