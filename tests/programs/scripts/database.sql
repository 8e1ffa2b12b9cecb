-- Fills, changes and asks a database of ROWS rows.
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL, length INTEGER, hash INTEGER);
CREATE TABLE pairs (first INTEGER REFERENCES words, second INTEGER REFERENCES words, PRIMARY KEY (first, second)) WITHOUT ROWID;
BEGIN;
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ROWS)
INSERT INTO words SELECT n, hex(n * 2654435761 % 4294967296) || '-' || (n * 7919 % 1000), 0, n * 40503 % 65536 FROM numbers;
UPDATE words SET length = length(word);
CREATE INDEX by_word ON words (word);
CREATE INDEX by_hash ON words (hash, length);
INSERT OR IGNORE INTO pairs SELECT id, hash + 1 FROM words WHERE hash + 1 <= ROWS;
COMMIT;
PRAGMA integrity_check;
SELECT count(*), sum(length), sum(hash), min(word), max(word) FROM words;
SELECT hash % 16 AS part, count(*), avg(length), group_concat(id % 10, '') LIKE '%77%' FROM words GROUP BY part ORDER BY part;
SELECT count(*), sum(first * 3 + second) % 1000003 FROM pairs JOIN words ON words.id = pairs.second WHERE length > 9;
DELETE FROM words WHERE id % 7 = 3 AND id NOT IN (SELECT second FROM pairs);
SELECT changes() > 0, count(*) FROM words;
BEGIN;
UPDATE words SET word = upper(word) || length;
ROLLBACK;
SELECT count(*), sum(length(word)) FROM words WHERE word GLOB '*7*-*';
SELECT a.word, b.word FROM words a JOIN words b ON b.hash = a.hash AND b.id > a.id ORDER BY a.word DESC, b.word LIMIT 5;
VACUUM;
PRAGMA integrity_check;
SELECT count(*) FROM words WHERE word BETWEEN '4' AND '8';
