-- The tables of an AstrID deployment as its own programs made them: decimals, JSONB, native enumerations, no ON DELETE, another alembic.
CREATE TYPE model_type AS ENUM ('UNET', 'ANOMALY_DETECTOR', 'CLASSIFIER', 'SEGMENTATION');
CREATE TYPE model_run_status AS ENUM ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED');
CREATE TYPE detection_type AS ENUM ('SUPERNOVA', 'VARIABLE', 'TRANSIENT', 'UNKNOWN', 'ARTIFACT');
CREATE TYPE detection_status AS ENUM ('PENDING', 'VALIDATING', 'VALIDATED', 'REJECTED', 'CONFIRMED', 'ARCHIVED');
CREATE TYPE confidence_level AS ENUM ('LOW', 'MEDIUM', 'HIGH', 'EXPERT');
CREATE TYPE image_quality AS ENUM ('EXCELLENT', 'GOOD', 'FAIR', 'POOR');
CREATE TYPE detection_quality AS ENUM ('EXCELLENT', 'GOOD', 'FAIR', 'POOR');
CREATE TYPE difference_run_status AS ENUM ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED');
CREATE TYPE candidate_status AS ENUM ('PENDING', 'PROCESSING', 'DETECTED', 'REJECTED', 'DUPLICATE');

CREATE TABLE surveys (id uuid PRIMARY KEY, name varchar(100) NOT NULL UNIQUE, description text, base_url varchar(500), api_endpoint varchar(500),
    is_active boolean NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
CREATE TABLE observations (id uuid PRIMARY KEY, survey_id uuid NOT NULL REFERENCES surveys, observation_id varchar(255) NOT NULL, ra numeric(10,7) NOT NULL,
    dec numeric(10,7) NOT NULL, observation_time timestamptz NOT NULL, filter_band varchar(50) NOT NULL, exposure_time numeric(10,3) NOT NULL,
    fits_url varchar(1000) NOT NULL, pixel_scale numeric(8,4), image_width integer, image_height integer, airmass numeric(5,2), seeing numeric(6,3),
    status varchar(50) NOT NULL, fits_file_path varchar(500), thumbnail_path varchar(500), created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
    CONSTRAINT check_ra CHECK (ra >= 0 AND ra <= 360), CONSTRAINT check_dec CHECK (dec >= -90 AND dec <= 90), CONSTRAINT check_exposure CHECK (exposure_time > 0),
    CONSTRAINT check_airmass CHECK (airmass > 0), CONSTRAINT check_seeing CHECK (seeing > 0));
CREATE INDEX idx_radec ON observations (ra, dec);
CREATE TABLE models (id uuid PRIMARY KEY, name varchar(100) NOT NULL, version varchar(50) NOT NULL, model_type model_type NOT NULL, architecture jsonb,
    hyperparameters jsonb, training_metrics jsonb, training_dataset varchar(200), precision numeric(5,4), recall numeric(5,4), f1_score numeric(5,4),
    accuracy numeric(5,4), training_energy_wh numeric(10,4), training_avg_power_w numeric(8,2), training_peak_power_w numeric(8,2),
    training_duration_seconds integer, training_carbon_footprint_kg numeric(10,6), is_active boolean NOT NULL, deployment_date timestamptz,
    model_path varchar(500), mlflow_run_id varchar(100), created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, UNIQUE (name, version));
CREATE TABLE model_runs (id uuid PRIMARY KEY, model_id uuid NOT NULL REFERENCES models, observation_id uuid REFERENCES observations,
    input_image_path varchar(500), output_mask_path varchar(500), confidence_map_path varchar(500), inference_time_ms integer, memory_usage_mb integer,
    energy_consumed_wh numeric(8,4), avg_power_draw_w numeric(6,2), peak_power_draw_w numeric(6,2), carbon_footprint_g numeric(8,4),
    total_predictions integer, high_confidence_predictions integer, status model_run_status NOT NULL, started_at timestamptz, completed_at timestamptz,
    error_message text, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
CREATE TABLE detections (id uuid PRIMARY KEY, model_run_id uuid NOT NULL REFERENCES model_runs, observation_id uuid NOT NULL REFERENCES observations,
    ra numeric(10,7) NOT NULL, dec numeric(10,7) NOT NULL, pixel_x integer NOT NULL, pixel_y integer NOT NULL,
    confidence_score numeric(5,4) NOT NULL CHECK (confidence_score >= 0 AND confidence_score <= 1), detection_type detection_type NOT NULL,
    model_version varchar(50) NOT NULL, inference_time_ms integer, prediction_metadata jsonb, status detection_status NOT NULL, is_validated boolean NOT NULL,
    validation_confidence numeric(5,4), human_label varchar(50), created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
CREATE TABLE validation_events (id uuid PRIMARY KEY, detection_id uuid NOT NULL REFERENCES detections, validator_id varchar(100) NOT NULL,
    is_valid boolean NOT NULL, label varchar(50), confidence_level confidence_level, notes text, tags jsonb, image_quality image_quality,
    detection_quality detection_quality, created_at timestamptz NOT NULL);
CREATE TABLE training_datasets (id uuid PRIMARY KEY, name varchar(255) NOT NULL, description text, collection_params jsonb NOT NULL,
    total_samples integer NOT NULL, anomaly_ratio numeric(5,4) NOT NULL, quality_score numeric(5,4) NOT NULL, created_at timestamptz NOT NULL,
    created_by varchar(255) NOT NULL, status varchar(50) NOT NULL DEFAULT 'active');
CREATE TABLE training_samples (id uuid PRIMARY KEY, dataset_id uuid NOT NULL REFERENCES training_datasets, observation_id uuid REFERENCES observations,
    detection_id uuid REFERENCES detections, image_path varchar(500) NOT NULL, mask_path varchar(500), labels jsonb NOT NULL, metadata jsonb,
    created_at timestamptz NOT NULL);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);

INSERT INTO alembic_version VALUES ('f00dfeed');
INSERT INTO surveys VALUES ('00000000-0000-0000-0000-000000000001', 'HST', NULL, NULL, NULL, true, '2024-01-01', '2024-01-01');
INSERT INTO observations VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'j8bt06nyq', 5.6512345, -72.0712345,
    '2024-01-01 03:00+03', 'F606W', 70.000, 'a.fits', 0.0281, 1024, 1024, NULL, 0.080, 'ingested', NULL, NULL, '2024-01-01', '2024-01-01');
INSERT INTO models VALUES ('00000000-0000-0000-0000-000000000003', 'unet', '1', 'ANOMALY_DETECTOR', '{"depth": 4}', NULL, NULL, NULL, 0.9125, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, true, NULL, NULL, NULL, '2024-01-01', '2024-01-01');
INSERT INTO model_runs (id, model_id, observation_id, status, created_at, updated_at) VALUES ('00000000-0000-0000-0000-000000000004',
    '00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000002', 'COMPLETED', '2024-01-01', '2024-01-01');
INSERT INTO detections SELECT ('00000000-0000-0000-0001-' || lpad(i::text, 12, '0'))::uuid, '00000000-0000-0000-0000-000000000004',
    '00000000-0000-0000-0000-000000000002', 5.65 + i*0.0001, -72.07, i, i, 0.7000, 'SUPERNOVA', '1', NULL, '{"fwhm": 2.5}', 'PENDING', false, NULL, NULL,
    '2024-01-01', '2024-01-01' FROM generate_series(1, 5) i;
