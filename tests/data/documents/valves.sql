PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE valve(id integer primary key, street text not null);
INSERT INTO valve VALUES(1,'Compston Road, behind the cinema');
COMMIT;
