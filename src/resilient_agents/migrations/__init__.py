"""SQL that makes the tables: numbered files, one folder a database."""
