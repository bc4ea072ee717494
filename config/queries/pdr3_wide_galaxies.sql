-- A clean sample of galaxies in HSC-SSP PDR3 Wide (Aihara et al. 2022, PASJ 74, 247), for `catalog.rerun: pdr3`.
--
-- Extended in i and brighter than i = 19.5 (corrected for Galactic extinction), seen in all five bands. No flags on the
-- galaxy, and no halo, ghost or blooming of a bright star over it. Change the limit as you like: galaxy counts grow by a
-- factor of about 2.5 with each magnitude, and tidalkin logs the number of rows first.
--
-- Names of tables and columns as in published queries to this release: MultimodalUniverse, scripts/hsc/pdr3_wide_22.5.sql
-- (the flags, at least 3 exposures in each band), and those of several groups that use pdr3_wide.masks.
-- The PSF's moments ({band}_sdssshape_psf_shape11/22/12, arcsec²) become the catalog's psf_fwhm_{band}.
SELECT
    object_id, forced.ra, forced.dec, forced.tract, forced.patch,
    forced.a_g, forced.a_r, forced.a_i, forced.a_z, forced.a_y,
    forced.g_cmodel_mag, forced.r_cmodel_mag, forced.i_cmodel_mag, forced.z_cmodel_mag, forced.y_cmodel_mag,
    forced.g_cmodel_magerr, forced.r_cmodel_magerr, forced.i_cmodel_magerr,
    forced.z_cmodel_magerr, forced.y_cmodel_magerr,
    forced2.g_sdssshape_psf_shape11, forced2.g_sdssshape_psf_shape22, forced2.g_sdssshape_psf_shape12,
    forced2.r_sdssshape_psf_shape11, forced2.r_sdssshape_psf_shape22, forced2.r_sdssshape_psf_shape12,
    forced2.i_sdssshape_psf_shape11, forced2.i_sdssshape_psf_shape22, forced2.i_sdssshape_psf_shape12,
    forced2.z_sdssshape_psf_shape11, forced2.z_sdssshape_psf_shape22, forced2.z_sdssshape_psf_shape12,
    forced2.y_sdssshape_psf_shape11, forced2.y_sdssshape_psf_shape22, forced2.y_sdssshape_psf_shape12
FROM pdr3_wide.forced
JOIN pdr3_wide.forced2 USING (object_id)
JOIN pdr3_wide.masks USING (object_id)
WHERE
    forced.isprimary
    -- a galaxy, and how bright
    AND forced.i_extendedness_value = 1
    AND forced.i_cmodel_mag - forced.a_i < 19.5
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
    AND NOT forced.g_pixelflags_crcenter AND NOT forced.r_pixelflags_crcenter AND NOT forced.i_pixelflags_crcenter
        AND NOT forced.z_pixelflags_crcenter AND NOT forced.y_pixelflags_crcenter
    -- its magnitudes can be trusted
    AND NOT forced.g_cmodel_flag AND NOT forced.r_cmodel_flag AND NOT forced.i_cmodel_flag
        AND NOT forced.z_cmodel_flag AND NOT forced.y_cmodel_flag
    -- no bright star over it
    AND NOT masks.g_mask_brightstar_halo AND NOT masks.r_mask_brightstar_halo AND NOT masks.i_mask_brightstar_halo
        AND NOT masks.z_mask_brightstar_halo AND NOT masks.y_mask_brightstar_halo
    AND NOT masks.g_mask_brightstar_ghost AND NOT masks.r_mask_brightstar_ghost AND NOT masks.i_mask_brightstar_ghost
        AND NOT masks.z_mask_brightstar_ghost AND NOT masks.y_mask_brightstar_ghost
    AND NOT masks.g_mask_brightstar_blooming AND NOT masks.r_mask_brightstar_blooming AND NOT masks.i_mask_brightstar_blooming
        AND NOT masks.z_mask_brightstar_blooming AND NOT masks.y_mask_brightstar_blooming
-- Sorted by object_id, so that neighbours on the sky are requested together.
ORDER BY object_id
