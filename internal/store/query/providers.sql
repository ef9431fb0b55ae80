-- name: GetProvider
SELECT id, team_id, name, managed, team_default, endpoint, bucket, access_key, region, retain_data, signature_version, version, created_at, updated_at
FROM providers WHERE team_id = $1 AND id = $2

-- name: ListProvidersDescending
SELECT id, team_id, name, managed, team_default, endpoint, bucket, access_key, region, retain_data, signature_version, version, created_at, updated_at
FROM providers WHERE team_id = $1 AND (created_at, id) < ($2, $3)
ORDER BY created_at DESC, id DESC LIMIT $4

-- name: ListProvidersAscending
SELECT id, team_id, name, managed, team_default, endpoint, bucket, access_key, region, retain_data, signature_version, version, created_at, updated_at
FROM providers WHERE team_id = $1 AND (created_at, id) > ($2, $3)
ORDER BY created_at, id LIMIT $4

-- name: CreateProvider
INSERT INTO providers (team_id, id, name, managed, team_default, endpoint, bucket, access_key, region, retain_data,
    signature_version, sealed_secret, secret_version, detected_region, metering_rules, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, '', '[]', $14, $15, $16)

-- name: UpdateProvider
UPDATE providers SET name = $3, team_default = $4, endpoint = $5, bucket = $6, access_key = $7, region = $8, retain_data = $9,
    signature_version = $10, version = $11, updated_at = $12
WHERE team_id = $1 AND id = $2

-- name: SetProviderSecret
UPDATE providers SET sealed_secret = $3, secret_version = $4, detected_region = '' WHERE team_id = $1 AND id = $2

-- name: SetDetectedRegion
UPDATE providers SET detected_region = $3 WHERE team_id = $1 AND id = $2 AND version = $4

-- name: ClearTeamDefault
UPDATE providers SET team_default = FALSE, version = version + 1, updated_at = $3
WHERE team_id = $1 AND team_default AND id <> $2

-- name: DeleteProvider
DELETE FROM providers WHERE team_id = $1 AND id = $2

-- name: GetCredential
SELECT sealed_secret, secret_version, detected_region FROM providers WHERE team_id = $1 AND id = $2

-- name: GetMeteringRules
SELECT metering_rules FROM providers WHERE team_id = $1 AND id = $2

-- name: SetMeteringRules
UPDATE providers SET metering_rules = $3, version = version + 1, updated_at = $4 WHERE team_id = $1 AND id = $2
