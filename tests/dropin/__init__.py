"""Do programs written for the ancestors work after changing the import?"""
