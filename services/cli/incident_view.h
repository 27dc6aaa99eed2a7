/* incident_view.h - an incident in words: pure. No I/O, no clock, no allocation; texts are not yet cleaned for a terminal, unless said. */
#ifndef REDOUBT_CLI_INCIDENT_VIEW_H
#define REDOUBT_CLI_INCIDENT_VIEW_H

#include "cli/term.h"
#include "common/wire.h"

#define INCIDENT_VIEW_TEXT 1024 /* enough for every text of this file */
#define INCIDENT_VIEW_BAR  24   /* columns between the brackets */

/* "full failure", "critical functions back": what an objective is about, for people; the name itself if it is not known. */
const char *incident_view_objective(const char *objective);
enum term_colour incident_view_colour(int severity, int phase);

/* ---- clocks ---- */
bool incident_view_runs(const PB(ObjectiveClock) * c);
/* How much of its limit is over, in percent; 9999 at most. */
unsigned incident_view_percent(const PB(ObjectiveClock) * c);
enum term_colour incident_view_clock_colour(const PB(ObjectiveClock) * c);
/* "[######------------------]  25 %". Clean. */
char *incident_view_bar(const PB(ObjectiveClock) * c, char buf[static INCIDENT_VIEW_TEXT]);
/* "12 min of 1 h, 48 min left", "stopped after 12 min of 1 h: met". Clean. */
char *incident_view_clock(const PB(ObjectiveClock) * c, char buf[static INCIDENT_VIEW_TEXT]);
/* Of those that run the one nearest to its limit, or furthest beyond; if none runs, of all. n_clocks = there is none. */
size_t incident_view_nearest(const PB(IncidentChanged) * m);

/* ---- the whole ---- */
/* "llm.openai: no LLM is usable". */
char *incident_view_about(const char *key, const char *summary, char buf[static INCIDENT_VIEW_TEXT]);
/* "RECOVER: 2 conditions are not over". */
char *incident_view_where(const PB(IncidentChanged) * m, char buf[static INCIDENT_VIEW_TEXT]);
/* "a, b, c and 497 more". */
char *incident_view_agents(const PB(IncidentChanged) * m, size_t most, char buf[static INCIDENT_VIEW_TEXT]);
/* One line for a change, as `tail` shows it. */
char *incident_view_line(const PB(IncidentChanged) * m, char buf[static INCIDENT_VIEW_TEXT]);
/* What is not normal about one that is open; false if nothing is: it is over but for what is to be learned, or a drill's. */
bool incident_view_problem(const PB(IncidentLine) * l, char buf[static INCIDENT_VIEW_TEXT]);
/* The i-th command by which a person goes on from here; false if there is none. Clean. */
bool incident_view_next(const PB(IncidentChanged) * m, size_t i, char buf[static INCIDENT_VIEW_TEXT]);

/* Words of options: `llm-outage`, `recover`. -1 = no value of this enumeration. */
int incident_view_word(const ProtobufCEnumDescriptor *desc, const char *word);

#endif
