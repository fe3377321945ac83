"""Admission: an AdmissionReview in, a JSON patch out. Pure; one module for each dialect of annotations."""
