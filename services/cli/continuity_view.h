/* continuity_view.h - objectives, backups, drills and availability in words and tables: pure but for what it prints. */
#ifndef REDOUBT_CLI_CONTINUITY_VIEW_H
#define REDOUBT_CLI_CONTINUITY_VIEW_H

#include "cli/incident_view.h"

enum term_colour continuity_view_verdict_colour(int verdict);
/* Breached first, then the clock nearest to its limit, then unknown, then met; NULL = there is no objective. */
const PB(ObjectiveStatus) * continuity_view_worst(const PB(ContinuityStatus) * s);
/* "1 incident open: llm-..., mad_llm_fallback 12 min of 1 h, 48 min left; objectives: 4 met, 1 BREACHED (rpo_audit), 4 unknown". */
char *continuity_view_headline(const PB(ContinuityStatus) * s, char buf[static INCIDENT_VIEW_TEXT]);
enum term_colour continuity_view_headline_colour(const PB(ContinuityStatus) * s);
/* Calls fn with a line for each thing that is not normal: incidents that are not over, recovery points that are too old, backups and drills that fail. */
void continuity_view_problems(const PB(ContinuityStatus) * s, void (*fn)(void *ctx, const char *text), void *ctx);
/* "12.3 MB". Returns buf. */
const char *continuity_view_size(uint64_t bytes, char *buf, size_t size);
/* How a source stands: "ok", "never saved", what went wrong. */
char *continuity_view_backup(const PB(BackupState) * b, char buf[static INCIDENT_VIEW_TEXT]);
enum term_colour continuity_view_backup_colour(const PB(BackupState) * b);
char *continuity_view_drill(const PB(DrillState) * d, char buf[static INCIDENT_VIEW_TEXT]);
enum term_colour continuity_view_drill_colour(const PB(DrillState) * d);
/* "backup saved 3 min ago ..."; one line for a change, as `tail` shows it. */
char *continuity_view_condition(unsigned condition, char buf[static INCIDENT_VIEW_TEXT]);

void continuity_view_print(const PB(ContinuityStatus) * s, const struct term *t, int64_t now_unix_ms);

/* "99.9871": of known_ms, in percent, never rounded up to a whole that it is not; "-" if nothing is known. */
const char *continuity_view_share(uint64_t part_ms, uint64_t known_ms, char *buf, size_t size);
void continuity_view_print_availability(const PB(AvailabilityReport) * r, const struct term *t);
void continuity_view_csv_availability(const PB(AvailabilityReport) * r, FILE *f);

#endif
