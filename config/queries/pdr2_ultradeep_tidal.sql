-- About the sample in which tidal features were found with self-supervised learning (Desmons et al. 2024, MNRAS 531, 4070;
-- code: LSSTISSC/Tidalsaurus), for `catalog.rerun: pdr2`.
--
-- From the paper's repository: HSC-SSP PDR2, UltraDeep layer, about 44,000 galaxies, images of 128 pixels in five bands, and
-- the columns of the catalog. The repository does not hold the query. The cuts here follow the query that the same group
-- published for its photometric redshifts (ml4astro/galaxy2galaxy, hsc_pdr2_wide_photoz.sql): primary, extended in i, at
-- least 3 exposures in each band, the flags below.
--
-- Our choice: 15 < i < 20 (not corrected for Galactic extinction). PDR2 processes Deep and UltraDeep together (pdr2_dud,
-- about 30 square degrees), where these limits give about the published number at the usual galaxy counts. Check them
-- against section 2 of the paper, and against the number of rows that tidalkin logs first.
SELECT
    object_id, forced.ra, forced.dec, forced.tract, forced.patch,
    forced.a_g, forced.a_r, forced.a_i, forced.a_z, forced.a_y,
    forced.g_cmodel_mag, forced.r_cmodel_mag, forced.i_cmodel_mag, forced.z_cmodel_mag, forced.y_cmodel_mag,
    forced.g_cmodel_magsigma, forced.r_cmodel_magsigma, forced.i_cmodel_magsigma,
    forced.z_cmodel_magsigma, forced.y_cmodel_magsigma,
    g_sdssshape_psf_shape11, g_sdssshape_psf_shape22, g_sdssshape_psf_shape12,
    r_sdssshape_psf_shape11, r_sdssshape_psf_shape22, r_sdssshape_psf_shape12,
    i_sdssshape_psf_shape11, i_sdssshape_psf_shape22, i_sdssshape_psf_shape12,
    z_sdssshape_psf_shape11, z_sdssshape_psf_shape22, z_sdssshape_psf_shape12,
    y_sdssshape_psf_shape11, y_sdssshape_psf_shape22, y_sdssshape_psf_shape12
FROM pdr2_dud.forced
JOIN pdr2_dud.forced2 USING (object_id)
JOIN pdr2_dud.forced3 USING (object_id)
WHERE
    forced.isprimary
    -- a galaxy, and how bright
    AND forced.i_extendedness_value = 1
    AND forced.i_cmodel_mag > 15 AND forced.i_cmodel_mag < 20
    -- observed in all five bands
    AND forced.g_inputcount_value >= 3 AND forced.r_inputcount_value >= 3 AND forced.i_inputcount_value >= 3
        AND forced.z_inputcount_value >= 3 AND forced.y_inputcount_value >= 3
    -- not at an edge, no bad pixel, no saturated or repaired centre
    AND NOT forced.g_pixelflags_edge AND NOT forced.r_pixelflags_edge AND NOT forced.i_pixelflags_edge
        AND NOT forced.z_pixelflags_edge AND NOT forced.y_pixelflags_edge
    AND NOT forced.g_pixelflags_bad AND NOT forced.r_pixelflags_bad AND NOT forced.i_pixelflags_bad
        AND NOT forced.z_pixelflags_bad AND NOT forced.y_pixelflags_bad
    AND NOT forced.g_pixelflags_saturatedcenter AND NOT forced.r_pixelflags_saturatedcenter AND NOT forced.i_pixelflags_saturatedcenter
        AND NOT forced.z_pixelflags_saturatedcenter AND NOT forced.y_pixelflags_saturatedcenter
    AND NOT forced.g_pixelflags_interpolatedcenter AND NOT forced.r_pixelflags_interpolatedcenter AND NOT forced.i_pixelflags_interpolatedcenter
        AND NOT forced.z_pixelflags_interpolatedcenter AND NOT forced.y_pixelflags_interpolatedcenter
    -- its magnitudes can be trusted
    AND NOT forced.g_cmodel_flag AND NOT forced.r_cmodel_flag AND NOT forced.i_cmodel_flag
        AND NOT forced.z_cmodel_flag AND NOT forced.y_cmodel_flag
    -- no bright star over it
    AND NOT forced.g_pixelflags_bright_objectcenter AND NOT forced.r_pixelflags_bright_objectcenter AND NOT forced.i_pixelflags_bright_objectcenter
        AND NOT forced.z_pixelflags_bright_objectcenter AND NOT forced.y_pixelflags_bright_objectcenter
    AND NOT forced.g_pixelflags_bright_object AND NOT forced.r_pixelflags_bright_object AND NOT forced.i_pixelflags_bright_object
        AND NOT forced.z_pixelflags_bright_object AND NOT forced.y_pixelflags_bright_object
ORDER BY object_id
