#!/usr/bin/env python3
"""Django's commands for this project, with the settings for development unless told otherwise."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "accounting.settings.development")
    execute_from_command_line(sys.argv)
