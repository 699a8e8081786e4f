-- to do: pages by day
/* not yet */
