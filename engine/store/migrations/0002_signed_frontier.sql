-- Format 2: each signed head with the roots of the complete subtrees that its tree is made of, so that what is sealed next
-- can be shown to go on from it without reading the log from its beginning. NULL in what format 1 has written.

ALTER TABLE checkpoints ADD COLUMN frontier BLOB;
