-- name: Savepoint (sqlite)
SAVEPOINT change

-- name: RollbackToSavepoint (sqlite)
ROLLBACK TO change

-- name: ReleaseSavepoint (sqlite)
RELEASE change
