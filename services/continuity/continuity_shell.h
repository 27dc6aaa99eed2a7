/* continuity_shell.h - what the shell's files share: the service's state, and the parts that only the leader opens.
 *
 * One replica leads (lease `continuity` in Redis); the others watch, keep the board warm from STATE, and pass orders on. Without Redis who led leads on, and if
 * nobody is heard for a while, anybody does: what it says twice carries the same ids. Changes are decided on the board, made durable in the outbox, announced. */
#ifndef REDOUBT_CONTINUITY_SHELL_H
#define REDOUBT_CONTINUITY_SHELL_H

#include "common/lease.h"
#include "common/service.h"
#include "common/subjects.h"
#include "continuity/availability.h"
#include "continuity/board.h"
#include "continuity/continuity_time.h"
#include "continuity/objective.h"

extern const struct service_desc continuity_service;

struct continuity; /* the room: s->state */
struct backups;
struct config_room;
struct gamedays;
struct reports;

/* What parts ask of the room (continuity_shell.c, continuity_say.c). */
struct service *continuity_service_of(struct continuity *c);
const struct set_continuity *continuity_set(const struct continuity *c);
struct board *continuity_board(struct continuity *c);
int64_t continuity_now_ms(const struct continuity *c); /* continuity time */
uint64_t continuity_fence(
    const struct continuity *c); /* of its lease, or the last one known while Redis is away; 0 = does not lead */
bool continuity_leads(const struct continuity *c); /* ask before each act */
bool continuity_incident_open(const struct continuity *c,
                              const char **ret_id);     /* any that is not a drill and not in LEARN */
const char *continuity_dir(const struct continuity *c); /* data_dir/continuity: shared by its replicas */
/* A document on STATE: packed, made durable in the outbox, published under `subject`; the id is subject and revision. */
void continuity_announce(struct continuity *c, const char *subject, uint64_t revision, const void *message);
/* An alert of a part: raised or over. Key `continuity/<what>`. */
void continuity_alert(struct continuity *c, const char *what, int severity, bool resolved, const char *agent,
                      const char *summary, const char *detail);
/* A continuity-class record for the trail. */
void continuity_record(struct continuity *c, const char *action, const char *actor, const char *subject, int outcome,
                       const char *detail);
/* A strict record: then(ctx, 0) when it is durable, -1 with text if it cannot be made so: do not act. */
void continuity_record_strict(struct continuity *c, const char *action, const char *actor, const char *subject,
                              const char *detail, outbox_cb then, void *ctx);
/* What was shown: kept, announced, judged. objective as in settings_objectives. scope "" = the suite. */
void continuity_demonstrated(struct continuity *c, enum set_objective o, const char *scope, int64_t took_ms,
                             const char *by);
void continuity_signal(struct continuity *c, const struct signal *s); /* from parts: data damage */

/* The part below; NULL while it is not open. */
struct config_room *continuity_config(const struct continuity *c);

/* Parts. open: leading begins (after the replay of STATE); close: it ends, what runs is ended or left to end. seen: a document that STATE replays, or that another leader
 * announces, also before open (then the service keeps the last of each and hands them over at open). command: answers once by service_reply*(); m->reply must be copied if later. */
struct backups *backups_open(struct continuity *c, struct err *e);
void backups_close(struct backups *b);
void backups_seen(struct backups *b, const PB(BackupState) * s);
void backups_tick(struct backups *b, int64_t now_ms); /* each second */
void backups_reload(struct backups *b);
void backups_command(struct backups *b, const char *verb, const PB(ContinuityCommand) * cmd,
                     const char *reply); /* backup, test */
size_t backups_states(const struct backups *b, const PB(BackupState) * *ret, size_t max);
/* The worst source's newest verified point for this RPO; false = no source. ret_expected: schedule plus the last run's time. */
bool backups_point(const struct backups *b, enum set_objective rpo, int64_t *ret_point_ms, int64_t *ret_expected_ms,
                   const char **ret_source);

struct config_room *config_room_open(struct continuity *c, struct err *e);
void config_room_close(struct config_room *r);
void config_room_seen(struct config_room *r, const PB(ConfigState) * s);
void config_room_tick(struct config_room *r, int64_t now_ms);
void config_room_reload(struct config_room *r);
void config_room_command(
    struct config_room *r, const char *verb, const PB(ContinuityCommand) * cmd,
    const char *reply); /* config_history, config_diff, config_put, config_apply, config_rollback */
const PB(ConfigState) * config_room_state(const struct config_room *r); /* NULL = not known yet */
/* The newest point whose copy was read back (a backup of kind config): said in its state. */
void config_room_verified(struct config_room *r, int64_t point_ms);
/* A consistent copy of the repository for a backup (git bundle), made below dir; cb once, later; path "" with text on failure. */
void config_room_bundle(struct config_room *r, const char *dir,
                        void (*cb)(void *ctx, const char *path, const char *error), void *ctx);

struct gamedays *gamedays_open(struct continuity *c, struct err *e);
void gamedays_close(struct gamedays *g);
void gamedays_use(struct gamedays *g, const char *path); /* plays them with this program instead of `redoubt` */
void gamedays_seen(struct gamedays *g, const PB(DrillState) * s);
void gamedays_tick(struct gamedays *g, int64_t now_ms);
void gamedays_reload(struct gamedays *g);
void gamedays_command(struct gamedays *g, const PB(ContinuityCommand) * cmd, const char *reply); /* drill */
size_t gamedays_states(const struct gamedays *g, const PB(DrillState) * *ret, size_t max);

struct reports *reports_open(struct continuity *c, struct err *e);
void reports_close(struct reports *r);
void reports_tick(struct reports *r, int64_t now_ms); /* monthly ones, and what could not be written yet */
void reports_reload(struct reports *r);
/* Write it (again); the room is told by continuity_reported(). */
void reports_incident(struct reports *r, const struct incident *x);
void reports_command(struct reports *r, const PB(ContinuityCommand) * cmd,
                     const char *reply); /* report: of `incident`, or of the month `name` */
void reports_delivery(struct reports *r,
                      const PB(DeliveryReceipt) * d); /* who was told when: kept for open incidents */
void continuity_reported(struct continuity *c, const char *id,
                         const char *name); /* name without ending; called on the loop */
/* Availability of all agents in a month, for reports; each in order of name. */
void continuity_availability(struct continuity *c, uint32_t month,
                             void (*each)(void *ctx, const char *agent, const struct availability_month *m),
                             void *ctx);

#endif
