/* report_page.h - what pages of reports have in common: head, sections, tables, foot. */
#ifndef REDOUBT_CONTINUITY_REPORT_PAGE_H
#define REDOUBT_CONTINUITY_REPORT_PAGE_H

#include "continuity/report_text.h"

/* Up to the first heading, inside <header>; title is another's text. */
void report_page_begin(struct report_text *o, const char *eyebrow, const char *title);
void report_page_section(struct report_text *o, const char *id, const char *title);
/* numbers: bit i = column i is of numbers. */
void report_page_table(struct report_text *o, const char *caption, const char *const *columns, size_t n,
                       unsigned numbers);
void report_page_table_end(struct report_text *o);
void report_page_end(struct report_text *o, const char *said);
const char *report_outcome_words(int outcome);

#endif
