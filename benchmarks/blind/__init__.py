"""A blind benchmark of :func:`infogeo.diagnose`: faults by somebody who has not read its rules. See blind_faults.py."""
