/* trim.h - gives back the pages that only the start needed, so that an idle service is as small as it looks. */
#ifndef REDOUBT_TRIM_H
#define REDOUBT_TRIM_H

/* Drops the mapped code of every library from this process; what is still used comes back from the page cache at its next
 * use. Loading libcurl with all that it links maps 11 MB, of which an idle service uses half. Changes nothing but memory. */
void trim_startup_pages(void);

#endif
