/* memory: what the allocator keeps, and what only start-up needed, goes back to the system. */
#ifndef MEMORY_H
#define MEMORY_H

/* Sets the allocator up for a small process; before anything large is allocated. */
void memory_init(void);

/* Start-up is over, the queue is known: gives its memory back, at once. */
void memory_started(void);

/* Something was freed that may have been large: gives back what is free, MEMORY_TRIM_MS later. */
void memory_freed(void);

#endif
